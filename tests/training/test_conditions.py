from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.models import DitModelSettings, LoraTransformer
from difflora.training import DitSettings
from difflora.training.batches import Batches
from difflora.training.conditions import Shown, show

SIZE = 8
MODEL = DitModelSettings(num_tokens=2, width=8, heads=2, layers=1)


@pytest.fixture(scope="module")
def transformer(town: Any) -> LoraTransformer:
    made: LoraTransformer = LoraTransformer(SIZE, 5, 3, MODEL.model_dump(mode="json"))
    made.fit_features(town.features.face, town.features.image)
    return made


LATENTS = torch.randn(30, SIZE, generator=torch.Generator().manual_seed(0))


def _show(town: Any, transformer: LoraTransformer, step: int = 0, size: int = 1000, **values: Any) -> Shown:
    process = values.pop("process", (0, 1))
    batches = Batches(town.features.names, size, 0, "cpu", *process)
    mix = values.pop("mix", True)
    return show(batches[step], LATENTS, town.features, transformer, DitSettings(model=MODEL, **values), mix=mix)


def _whose(latents: Tensor) -> Tensor:
    return torch.cdist(latents, LATENTS).argmin(1)


def test_each_time_another_picture_of_the_same_person(town: Any, transformer: LoraTransformer) -> None:
    shown = _show(town, transformer, condition_dropout=0.0)
    owners = _whose(shown.latents)
    assert torch.equal(shown.latents, LATENTS[owners])
    which = torch.cdist(shown.face, town.features.face).argmin(1)
    assert torch.equal(shown.face, town.features.face[which])
    assert torch.equal(shown.image, town.features.image[which]), "both features are of one picture"
    assert torch.equal(which // 3, owners)
    assert (which % 3).bincount().min() > 250, "all pictures are drawn alike"
    assert not shown.drop.any()


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_conditions_are_withheld_at_the_rate_that_is_asked(town: Any, transformer: Any, rate: float) -> None:
    drop = torch.cat([_show(town, transformer, step, condition_dropout=rate).drop for step in range(5)])
    assert drop.float().mean() == pytest.approx(rate, abs=0.03)


def test_mixtures_lie_between_two_people_with_their_features(town: Any, transformer: LoraTransformer) -> None:
    plain = _show(town, transformer, size=12, condition_dropout=0.0)
    mixed = _show(town, transformer, size=12, condition_dropout=0.0, mixup=1.0)
    towards = plain.latents.roll(-1, 0) - plain.latents
    share = ((mixed.latents - plain.latents) * towards).sum(1) / towards.square().sum(1)
    assert ((share > 0) & (share < 1)).all()
    torch.testing.assert_close(mixed.latents, torch.lerp(plain.latents, plain.latents.roll(-1, 0), share[:, None]))
    for before, after in ((plain.face, mixed.face), (plain.image, mixed.image)):
        expected = torch.lerp(before, before.roll(-1, 0), share[:, None])
        torch.testing.assert_close(after, torch.nn.functional.normalize(expected, dim=1), atol=1e-5, rtol=1e-4)
    unmixed = _show(town, transformer, size=12, condition_dropout=0.0, mixup=1.0, mix=False)
    assert torch.equal(unmixed.latents, plain.latents)


def test_only_some_are_mixed(town: Any, transformer: LoraTransformer) -> None:
    shown = _show(town, transformer, mixup=0.3)
    pure = (shown.latents[:, None] == LATENTS).all(2).any(1)
    assert pure.float().mean() == pytest.approx(0.7, abs=0.05)


def test_noise_on_conditions_has_many_amounts_up_to_the_most(town: Any, transformer: LoraTransformer) -> None:
    plain = _show(town, transformer, condition_dropout=0.0)
    noisy = _show(town, transformer, condition_dropout=0.0, condition_noise=0.5)
    torch.testing.assert_close(noisy.face.norm(dim=1), torch.ones(1000))
    moved = ((noisy.image - plain.image) / transformer.image_deviation).square().mean(1).sqrt()
    assert moved.quantile(0.05) < 0.05, "some are hardly moved"
    assert 0.3 < moved.quantile(0.98) < 0.8


def test_processes_share_out_the_same_batch(town: Any, transformer: LoraTransformer) -> None:
    options: dict[str, Any] = {"size": 12, "mixup": 0.5, "condition_noise": 0.3, "condition_dropout": 0.3}
    whole = _show(town, transformer, **options)
    parts = [_show(town, transformer, process=(process, 3), **options) for process in range(3)]
    for name in ("latents", "face", "image", "drop"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
