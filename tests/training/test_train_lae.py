from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from difflora.errors import BadParameter
from difflora.lora import BaseModelId, LoraLayout
from difflora.lora.layout import LoraModule
from difflora.models import LaeModelSettings
from difflora.training import LaeSettings, train_lae
from difflora.training.reproducible import weights_digest

NETWORKS: dict[str, Any] = {
    "strides": (2, 3),
    "channels": (8, 8),
    "latent_channels": 1,
    "width": 16,
    "heads": 2,
    "layers": 1,
    "mlp_width": 32,
}


def _settings(loop: Any, *, linear_path: bool = False, **changes: Any) -> LaeSettings:
    return LaeSettings(model=LaeModelSettings(linear_path=linear_path, **NETWORKS), loop=loop, **changes)


def test_paper_mode_learns(town: Any, loop: Callable[..., Any], tmp_path: Path) -> None:
    settings = _settings(loop(steps=300, batch_size=16, lr=3e-3, log_every=50, save_every=300))
    trained = train_lae(
        town.corpus,
        settings,
        checkpoint=tmp_path,
        base=BaseModelId(name="tiny"),
        alpha=3.0,
        trigger_prompt="sks",
        progress=False,
    )
    assert trained.metrics["explained_train"] > 0.5
    assert trained.metrics["compression_ratio"] == 5.8
    assert trained.report.history[-1]["loss"] < 0.6 * trained.report.history[0]["loss"]
    assert set(trained.modules) == {"a.to_q", "a.to_k"}
    model = trained.model
    assert (model.base, model.config.alpha, model.config.trigger_prompt) == (BaseModelId(name="tiny"), 3.0, "sks")
    assert not model.training
    with torch.no_grad():
        latents = model.encode(town.corpus.rows(town.corpus.indices("train")))
    torch.testing.assert_close(latents.std(0, unbiased=False), torch.ones(10), atol=1e-3, rtol=0)


def test_better_mode_starts_at_the_pca_and_explains_unseen_people(
    town: Any, loop: Callable[..., Any], tmp_path: Path
) -> None:
    settings = _settings(loop(steps=5, lr=1e-4, warmup_steps=0), linear_path=True)
    trained = train_lae(town.corpus, settings, checkpoint=tmp_path, progress=False)
    # Four traits and a little noise: ten components hold nearly all of it.
    assert trained.metrics["explained_train"] > 0.99
    assert trained.metrics["explained_validation"] > 0.95


def test_a_resumed_training_equals_an_uninterrupted_one(town: Any, loop: Callable[..., Any], tmp_path: Path) -> None:
    settings = _settings(loop(), linear_path=True)

    def stop(step: int, _: Any) -> None:
        if step == 15:
            raise KeyboardInterrupt

    whole = train_lae(town.corpus, settings, checkpoint=tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train_lae(town.corpus, settings, checkpoint=tmp_path / "cut", on_log=stop, progress=False)
    resumed = train_lae(town.corpus, settings, checkpoint=tmp_path / "cut", progress=False)
    assert weights_digest(resumed.model) == weights_digest(whole.model)
    assert (resumed.metrics, resumed.report.history) == (whole.metrics, whole.report.history)
    with pytest.raises(BadParameter, match=r"lae with lae\.wp_weight = 1\.0, not 0\.5"):
        train_lae(
            town.corpus, settings.model_copy(update={"wp_weight": 0.5}), checkpoint=tmp_path / "cut", progress=False
        )


def test_mixed_precision_is_near_full(town: Any, loop: Callable[..., Any], tmp_path: Path) -> None:
    made = {}
    for precision in ("fp32", "bf16"):
        settings = _settings(loop(precision=precision), linear_path=True)
        made[precision] = train_lae(town.corpus, settings, checkpoint=tmp_path / precision, progress=False)
    losses = [trained.report.history[-1]["loss"] for trained in made.values()]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in made["bf16"].model.parameters())


def test_going_on_from_a_trained_model(
    town: Any, make_town: Callable[..., Any], loop: Callable[..., Any], tmp_path: Path
) -> None:
    settings = _settings(loop(), linear_path=True)
    first = train_lae(town.corpus, settings, checkpoint=tmp_path / "first", progress=False).model
    before = weights_digest(first)
    grown = make_town(tmp_path / "grown", 40).corpus
    second = train_lae(grown, settings, checkpoint=tmp_path / "second", start=first, progress=False).model
    assert weights_digest(first) == before, "the champion stays as it is"
    assert torch.equal(second.mean, first.mean), "weights keep their statistics"
    assert not torch.equal(second.linear.decoder, first.linear.decoder)
    with pytest.raises(BadParameter, match="its settings are not those of lae"):
        train_lae(grown, _settings(loop()), checkpoint=tmp_path / "third", start=first, progress=False)
    other = make_town(tmp_path / "other", 10, LoraLayout((LoraModule("z", 9, 7),), 2)).corpus
    with pytest.raises(BadParameter, match="start: LoRA layout"):
        train_lae(other, settings, checkpoint=tmp_path / "third", start=first, progress=False)
