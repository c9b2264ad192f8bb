from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from difflora.training import DitSettings, LaeSettings, LoopSettings


def test_the_defaults_are_the_papers() -> None:
    lae, dit = LaeSettings(), DitSettings()
    assert (lae.loop.lr, lae.loop.batch_size) == (2e-5, 4)
    assert (dit.loop.lr, dit.loop.batch_size) == (1e-4, 32)
    assert (dit.noise.num_train_timesteps, dit.noise.beta_start, dit.noise.beta_end) == (1000, 1e-4, 0.012)
    assert (dit.model.prediction_type, dit.model.layers, dit.condition_dropout) == ("sample", 16, 0.1)


def test_rate_rises_and_falls() -> None:
    settings = LoopSettings(steps=110, warmup_steps=10, lr=1.0, final_lr=0.1, schedule="cosine")
    assert [settings.lr_at(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert settings.lr_at(10) == pytest.approx(1.0)
    assert settings.lr_at(60) == pytest.approx(0.55)
    assert settings.lr_at(110) == pytest.approx(0.1)
    assert LoopSettings(lr=0.5, warmup_steps=0, schedule="constant").lr_at(900) == 0.5


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (LoopSettings, {"log_every": 30, "save_every": 50}, "no multiple of log_every = 30"),
        (LoopSettings, {"betas": (0.9, 1.0)}, "betas"),
        (LoopSettings, {"learning_rate": 1.0}, "learning_rate"),
        (DitSettings, {"condition_dropout": 1.0}, "condition_dropout"),
        (DitSettings, {"noise": {"num_train_timesteps": 3}, "effect": {"enabled": True}}, "rollout_steps is 4 of 3"),
        (DitSettings, {"refine": {"prompts": ["{person}", "a man"]}}, "'a man' does not say where the person is"),
        (DitSettings, {"refine": {"prompts": []}}, "refine.prompts"),
        (LaeSettings, {"model": {"heads": 0}}, "model.heads"),
    ],
)
def test_settings_that_cannot_be(kind: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        kind(**values)
