from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from difflora.grid import as_tensor, grid


def test_grid_puts_pictures_in_their_places() -> None:
    red, blue = torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 64)
    red[:, 0], blue[:, 2] = 1, 1
    with Image.open(io.BytesIO(grid([red, blue], ["a red row", "a blue row"]))) as picture:
        pixels = np.array(picture)
    assert pixels.shape[2] == 3
    right = pixels[:, -70]
    assert (right == [255, 0, 0]).all(1).sum() >= 126
    assert (right == [0, 0, 255]).all(1).sum() >= 126
    assert (pixels[:, :200] == 0).any(), "the labels are written"


def test_small_pictures_grow_and_large_ones_stay() -> None:
    for side, shown in ((64, 128), (256, 256)):
        with Image.open(io.BytesIO(grid([torch.zeros(1, 3, side, side)], ["one"]))) as picture:
            assert picture.height == shown + 12


def test_a_picture_of_another_shape_is_shown_whole() -> None:
    wide = Image.new("RGB", (200, 100), (255, 0, 0))
    shown = as_tensor(wide, (64, 64))
    assert shown.shape == (1, 3, 64, 64)
    red = (shown[0, 0] > 0.9) & (shown[0, 1] < 0.1)
    assert red.sum() == 64 * 32
    assert red[16:48].all(), "in the middle"
