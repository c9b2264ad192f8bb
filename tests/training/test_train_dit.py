from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from difflora.errors import BadParameter
from difflora.models import DitModelSettings, LaeModelSettings, LoraAutoencoder
from difflora.training import DitSettings, LaeSettings, train_dit, train_lae
from difflora.training.reproducible import weights_digest

MODEL: dict[str, Any] = {"num_tokens": 2, "width": 32, "heads": 2, "layers": 2, "mlp_ratio": 2.0}


@pytest.fixture(scope="module")
def lae(town: Any, loop: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> LoraAutoencoder:
    model = LaeModelSettings(linear_path=True, networks=False, strides=(10,), channels=(8,), latent_channels=1)
    settings = LaeSettings(model=model, loop=loop(steps=5, lr=1e-5))
    return train_lae(town.corpus, settings, checkpoint=tmp_path_factory.mktemp("lae"), progress=False).model


def _settings(loop: Any, *, linear_skip: bool = False, **changes: Any) -> DitSettings:
    return DitSettings(model=DitModelSettings(linear_skip=linear_skip, **MODEL), loop=loop, **changes)


def test_it_learns_what_a_face_says_of_the_lora(town: Any, lae: Any, loop: Callable[..., Any], tmp_path: Path) -> None:
    settings = _settings(loop(steps=400, batch_size=24, lr=4e-3, log_every=50, save_every=400, ema_decay=0.98))
    trained = train_dit(town.corpus, lae, town.features, settings, checkpoint=tmp_path, progress=False)
    assert trained.metrics["explained_train"] > 0.6
    assert trained.report.history[-1]["loss"] < 0.6 * trained.report.history[0]["loss"]
    assert trained.lae is lae
    assert trained.effect_report is None


def test_the_linear_skip_starts_at_the_ridge_regression(
    town: Any, lae: Any, loop: Callable[..., Any], tmp_path: Path
) -> None:
    settings = _settings(loop(steps=1, lr=1e-6, log_every=1, save_every=1), linear_skip=True)
    trained = train_dit(town.corpus, lae, town.features, settings, checkpoint=tmp_path, progress=False)
    # LoRAs are linear in traits, and traits nearly linear in faces.
    assert trained.metrics["explained_train"] > 0.7
    assert trained.metrics["explained_validation"] > 0.5


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_other_predictions_are_trained_and_sampled(
    town: Any, lae: Any, loop: Callable[..., Any], tmp_path: Path, prediction_type: Any
) -> None:
    model = DitModelSettings(prediction_type=prediction_type, **MODEL)
    settings = DitSettings(model=model, loop=loop(steps=100, batch_size=16, lr=3e-3, log_every=10, save_every=100))
    trained = train_dit(town.corpus, lae, town.features, settings, checkpoint=tmp_path, progress=False)
    assert trained.report.history[-1]["loss"] < trained.report.history[0]["loss"]


def test_mixed_precision_is_near_full(town: Any, lae: Any, loop: Callable[..., Any], tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        settings = _settings(loop(precision=precision), linear_skip=True)
        trained = train_dit(town.corpus, lae, town.features, settings, checkpoint=tmp_path / precision, progress=False)
        losses.append(trained.report.history[-1]["loss"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_resumed_training_equals_an_uninterrupted_one(
    town: Any, lae: Any, loop: Callable[..., Any], tmp_path: Path
) -> None:
    settings = _settings(loop(), linear_skip=True, mixup=0.5, condition_noise=0.2)

    def stop(step: int, _: Any) -> None:
        if step == 10:
            raise KeyboardInterrupt

    arguments = (town.corpus, lae, town.features, settings)
    whole = train_dit(*arguments, checkpoint=tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train_dit(*arguments, checkpoint=tmp_path / "cut", on_log=stop, progress=False)
    resumed = train_dit(*arguments, checkpoint=tmp_path / "cut", progress=False)
    assert weights_digest(resumed.transformer) == weights_digest(whole.transformer)
    assert (resumed.metrics, resumed.report.history) == (whole.metrics, whole.report.history)
    changed = settings.model_copy(update={"mixup": 0.1})
    with pytest.raises(BadParameter, match=r"dit\.mixup = 0\.5, not 0\.1"):
        train_dit(*arguments[:3], changed, checkpoint=tmp_path / "cut", progress=False)


def test_going_on_from_a_trained_model(town: Any, lae: Any, loop: Callable[..., Any], tmp_path: Path) -> None:
    arguments = (town.corpus, lae, town.features)
    first = train_dit(*arguments, _settings(loop()), checkpoint=tmp_path / "first", progress=False).transformer
    before = weights_digest(first)
    second = train_dit(*arguments, _settings(loop()), checkpoint=tmp_path / "second", start=first, progress=False)
    assert weights_digest(first) == before
    assert not torch.equal(second.transformer.null, first.null)
    with pytest.raises(BadParameter, match="start: its sizes or settings"):
        train_dit(
            *arguments, _settings(loop(), linear_skip=True), checkpoint=tmp_path / "third", start=first, progress=False
        )


def test_parts_that_are_missing_or_of_others(
    town: Any, lae: Any, loop: Callable[..., Any], make_town: Callable[..., Any], tmp_path: Path
) -> None:
    settings = _settings(loop(), effect={"enabled": True})
    with pytest.raises(BadParameter, match=r"dit\.effect or dit\.refine is on: give the base model"):
        train_dit(town.corpus, lae, town.features, settings, checkpoint=tmp_path, progress=False)
    some = town.features.of(["p001", "p002"])
    with pytest.raises(BadParameter, match=r"features: p0\d\d has none"):
        train_dit(town.corpus, lae, some, _settings(loop()), checkpoint=tmp_path, progress=False)
