from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from difflora.errors import BadParameter
from difflora.evaluation.figures.autoencoders import (
    draw_autoencoders,
    measure_autoencoders,
    rows_per_person,
    shrink,
    truncate,
)
from difflora.evaluation.figures.settings import AutoencoderFigureSettings

SETTINGS = AutoencoderFigureSettings(
    ranks=(4, 1), size=16, channels=(8,), latent_channels=2, steps=30, batch_size=8, lr=0.01
)


def _pictures(count: int, seed: int) -> Tensor:
    """Smooth ones of rank 1 and noise of full rank."""
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0.2, 1, 16)
    slopes = torch.rand(count, 3, 1, 1, generator=generator)
    return 0.8 * slopes * ramp[:, None] * ramp + 0.2 * torch.rand(count, 3, 16, 16, generator=generator)


def test_truncation_is_the_nearest_of_its_rank() -> None:
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(pictures)
    for rank in (1, 5):
        cut = truncate(pictures, rank)
        assert (torch.linalg.matrix_rank(cut, rtol=1e-4) == rank).all()
        torch.testing.assert_close((cut - pictures).square().sum((2, 3)), values[..., rank:].square().sum(2))
    torch.testing.assert_close(truncate(pictures, 16), pictures)


def test_shrinking_keeps_what_is_even() -> None:
    flat = torch.full((1, 3, 64, 48), 51, dtype=torch.uint8)
    torch.testing.assert_close(shrink(flat, 16), torch.full((1, 3, 16, 16), 0.2))


def test_low_rank_is_learnt_better_where_the_rest_is_noise(opened: Callable[..., Any]) -> None:
    train, told = _pictures(64, 1), []
    test = [_pictures(3, seed) for seed in (2, 3, 4)]
    found = measure_autoencoders(train, test, SETTINGS, 0, told.append)
    assert found.ranks == [1, 4, 16]
    assert (found.people, found.pictures, len(told)) == (3, 64, 90)
    assert found.compression == 3 * 256 / (2 * 64)
    for name in ("psnr", "ssim", "explained"):
        means = [one["mean"] for one in found.learnt[name]]
        assert means[0] > means[-1], name
        assert found.gain[name]["mean"] == pytest.approx(means[0] - means[-1])
    assert found.learnt["psnr"][0]["mean"] > found.guess["psnr"][0]["mean"] + 2, "it learns"
    again = measure_autoencoders(train, test, SETTINGS, 0)
    assert again == found, "the same seed gives the same numbers"
    drawing = draw_autoencoders(found)
    assert "30 steps, 6 times smaller" in drawing.caption
    assert "learn 64 pictures" in drawing.caption
    opened(drawing)


def test_a_guess_without_looking_explains_nothing() -> None:
    settings = SETTINGS.model_copy(update={"lr": 1e-12, "ranks": (1,), "steps": 1})
    train = _pictures(16, 1)
    found = measure_autoencoders(train, [_pictures(4, 2), _pictures(4, 3)], settings, 0)
    assert [one["mean"] for one in found.learnt["explained"]] == pytest.approx([0, 0], abs=1e-6), "untrained"
    error = (truncate(_pictures(4, 2), 16) - train.mean(0)).square().mean((1, 2, 3))
    other = (truncate(_pictures(4, 3), 16) - train.mean(0)).square().mean((1, 2, 3))
    expected = (-10 * torch.cat([error, other]).log10()).mean()
    assert found.guess["psnr"][-1]["mean"] == pytest.approx(float(expected), abs=1e-3)


def test_too_few_are_refused() -> None:
    with pytest.raises(BadParameter, match="0 pictures to learn from and 1 held-out people"):
        measure_autoencoders(torch.empty(0, 3, 16, 16), [_pictures(2, 1)], SETTINGS, 0)


def test_pictures_are_shared_out_evenly() -> None:
    assert [rows_per_person(100, people) for people in (10, 60, 300)] == [10, 1, 1]


@pytest.mark.parametrize("values", [{"ranks": (32,)}, {"ranks": (0,)}, {"ranks": (2, 2)}, {"size": 20}])
def test_settings_fit_each_other(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AutoencoderFigureSettings(**values)
