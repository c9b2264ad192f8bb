from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difflora.world.faces.augment import blur, degrade, jitter, warp


@pytest.fixture
def images() -> Tensor:
    """Stripes, which blur and bending change."""
    stripes = (torch.arange(64) // 4 % 2).float()
    return stripes.expand(6, 3, 64, 64).clone()


def _drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_asked_is_nothing_done(images: Tensor) -> None:
    assert torch.equal(degrade(images, _drawn(), 0.0), images)
    assert torch.equal(warp(images, 0.0, _drawn()), images)
    assert len(warp(images[:0], 1.0, _drawn())) == 0


def test_blur_keeps_the_mean_and_each_picture_has_its_own_width(images: Tensor) -> None:
    made = blur(images, torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 2.5]))
    contrast = made.std(dim=(1, 2, 3))
    assert (contrast.diff() < 0).all()
    torch.testing.assert_close(made[0], images[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(made.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), atol=0.02, rtol=0)


def test_bending_moves_lines_and_no_colour(images: Tensor) -> None:
    made = warp(images, 1.0, _drawn())
    changed = (made - images).abs().mean(dim=(1, 2, 3))
    assert (changed > 0).all()
    assert made.min() >= 0
    assert made.max() <= 1
    flat = torch.full((2, 3, 64, 64), 0.3)
    torch.testing.assert_close(warp(flat, 2.0, _drawn()), flat)
    assert torch.equal(made, warp(images, 1.0, _drawn())), "a function of the generator alone"


def test_stronger_degrading_changes_more_and_stays_a_picture(images: Tensor) -> None:
    far = [(degrade(images, _drawn(3), strength) - images).abs().mean() for strength in (0.5, 1.0, 2.0)]
    assert far[0] < far[1] < far[2]
    made = degrade(images, _drawn(3), 2.0)
    assert made.min() >= 0
    assert made.max() <= 1


def test_landmarks_move_by_the_size_of_the_face() -> None:
    face = torch.tensor([[[20.0, 20.0], [40.0, 20.0], [30.0, 30.0], [24.0, 40.0], [36.0, 40.0]]]).expand(500, 5, 2)
    small = (jitter(face, 0.05, _drawn()) - face).std()
    large = (jitter(2 * face, 0.05, _drawn()) - 2 * face).std()
    assert large / small == pytest.approx(2, rel=1e-3)
    assert small == pytest.approx(0.05 * 20, rel=0.3)
