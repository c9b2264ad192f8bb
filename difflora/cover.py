"""How much of a coarse grid, such as latents are, a box in a picture covers."""

from __future__ import annotations

import torch
from torch import Tensor


def box_cover(boxes: Tensor, size: tuple[int, int], places: tuple[int, int]) -> Tensor:
    """How much of each place of a grid a box covers.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels.
        size: height and width of the picture.
        places: rows and columns h, w of the grid.

    Returns:
        (N, h, w) float32, 0 to 1.
    """
    spans = []
    for low, high, whole, count in ((1, 3, size[0], places[0]), (0, 2, size[1], places[1])):
        side = whole / count
        # From each place's start, (N, 2, count).
        edges = boxes[:, (low, high), None].float() - torch.arange(count) * side
        reach = edges.clamp(0, side) / side
        spans.append(reach[:, 1] - reach[:, 0])  # (N, count)
    return spans[0][:, :, None] * spans[1][:, None, :]
