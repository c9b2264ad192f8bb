from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difflora.corpus.framing import frame, framed_size
from difflora.corpus.settings import DreamBoothSettings

BOXES = torch.tensor([[10.0, 20, 30, 30]])
POINTS = torch.tensor([[[14.0, 23], [26, 23], [20, 25], [15, 28], [25, 28]]])


def _pictures(count: int, height: int, width: int) -> Tensor:
    """The first channel is each pixel's row, the second its column."""
    rows = torch.arange(height)[:, None].expand(height, width)
    columns = torch.arange(width)[None].expand(height, width)
    return torch.stack([rows, columns, 0 * rows]).byte().repeat(count, 1, 1, 1)


def test_without_a_resolution_pictures_stay_whole() -> None:
    images = _pictures(2, 40, 64)
    framed, boxes, points, told = frame(images, BOXES[:1].repeat(2, 1), POINTS.repeat(2, 1, 1), DreamBoothSettings())
    assert torch.equal(points, POINTS.repeat(2, 1, 1))
    assert framed is images
    assert torch.equal(boxes, BOXES[:1].repeat(2, 1))
    assert told.tolist() == [[40, 64, 0, 0, 40, 64]] * 2
    assert framed_size((40, 64), DreamBoothSettings()) == (40, 64)


def test_the_middle_of_the_longer_side_as_torchvision_crops() -> None:
    settings = DreamBoothSettings(resolution=40)
    framed, boxes, points, told = frame(_pictures(1, 40, 65), BOXES, POINTS, settings)
    assert points[0].tolist() == [[2, 23], [14, 23], [8, 25], [3, 28], [13, 28]]
    assert told.tolist() == [[40, 65, 0, 12, 40, 40]], "25 / 2, rounded to even"
    assert (framed[0, 1, 0, 0], framed[0, 1, 0, -1]) == (12, 51)
    assert boxes.tolist() == [[-2, 20, 18, 30]]
    assert framed_size((40, 65), settings) == (40, 40)


def test_the_shorter_side_is_resized_and_the_aspect_kept() -> None:
    framed, boxes, points, told = frame(_pictures(1, 200, 100), BOXES, POINTS, DreamBoothSettings(resolution=48))
    torch.testing.assert_close(points[0, 0], torch.tensor([14 * 0.48, 23 * 0.48 - 24]))
    assert framed.shape == (1, 3, 48, 48)
    assert told.tolist() == [[200, 100, 24, 0, 48, 48]]
    torch.testing.assert_close(boxes, torch.tensor([[4.8, 9.6 - 24, 14.4, 14.4 - 24]]))
    # Row 24 of 96 is row 50 of 200; a column is 100 / 48 wide.
    assert framed[0, 0, 0, 0].item() == pytest.approx(24.5 * 200 / 96, abs=1.5)
    assert framed[0, 1, 0, 47].item() == pytest.approx(47.5 * 100 / 48, abs=1.5)


def test_random_crops_are_told_shared_and_inside() -> None:
    settings = DreamBoothSettings(resolution=16, crop="random", seed=3)
    images = _pictures(40, 16, 40)
    nowhere = torch.zeros(40, 4), torch.zeros(40, 5, 2)
    framed, _, _, told = frame(images, *nowhere, settings)
    lefts = told[:, 3].long()
    assert set(told[:, 2].tolist()) == {0}
    assert lefts.min() >= 0
    assert lefts.max() <= 24
    assert len(lefts.unique()) > 10
    assert torch.equal(framed[:, 1, 0, 0].long(), lefts), "what is told is where it was cropped"
    assert torch.equal(frame(images, *nowhere, settings)[3], told), "the same for everyone"
    other = settings.model_copy(update={"seed": 4})
    assert not torch.equal(frame(images, *nowhere, other)[3], told)
