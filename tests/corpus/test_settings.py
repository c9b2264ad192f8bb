from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from difflora.corpus.settings import DreamBoothSettings, read_settings
from difflora.errors import BadFile, BadParameter


def test_rates_of_the_schedules() -> None:
    constant = DreamBoothSettings(lr=2.0, steps=10, warmup_steps=4)
    assert [constant.lr_at(step) for step in (0, 1, 3, 4, 9)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    linear = DreamBoothSettings(lr=1.0, steps=10, schedule="linear", final_lr=0.2)
    assert linear.lr_at(5) == pytest.approx(0.6)
    cosine = DreamBoothSettings(lr=1.0, steps=100, schedule="cosine", final_lr=0.1)
    assert cosine.lr_at(0) == pytest.approx(1.0)
    assert cosine.lr_at(50) == pytest.approx(0.55)
    assert cosine.lr_at(99) == pytest.approx(0.1, abs=1e-3)


def test_scale_is_alpha_over_rank() -> None:
    assert DreamBoothSettings(rank=8).scale == 1
    assert DreamBoothSettings(rank=8, alpha=4).scale == 0.5


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"steps": 5, "warmup_steps": 5}, "warmup_steps is 5"),
        ({"betas": [0.9, 1.0]}, "betas"),
        ({"schedule": "wavy"}, "schedule is 'wavy'"),
        ({"learning_rate": 1}, "learning_rate is 1"),
        ({"resolution": 1020}, "resolution is 1020"),
        ({"snr_gamma": 0}, "snr_gamma is 0"),
        ({"prior_preservation": {"weight": 0}}, "prior_preservation.weight is 0"),
        ({"prior_preservation": {"prompt": ""}}, "prior_preservation.prompt is ''"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        read_settings(None, values)


def test_options_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"steps": 30, "lr": 0.015, "targets": ["attention", "feed_forward"]}')
    settings = read_settings(path, {"steps": 40})
    assert (settings.steps, settings.lr, settings.targets) == (40, 0.015, ("attention", "feed_forward"))
    path.write_text('{"stepz": 30}')
    with pytest.raises(BadParameter, match=r"settings.json: stepz is 30"):
        read_settings(path, {})
    with pytest.raises(BadFile, match="nowhere"):
        read_settings(tmp_path / "nowhere.json", {})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        DreamBoothSettings().steps = 3  # type: ignore[misc]


def test_what_decides_a_lora() -> None:
    plain, saving = DreamBoothSettings(), DreamBoothSettings(gradient_checkpointing=True)
    assert plain.deciding == saving.deciding
    for option in ({"snr_gamma": 5.0}, {"prior_preservation": {}}, {"resolution": 64}, {"precision": "bf16"}):
        assert DreamBoothSettings.model_validate(option).deciding != plain.deciding
