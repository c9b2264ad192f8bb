"""How much of a coarse grid, such as latents are, a face's box covers, and how near its features are."""

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


def feature_cover(landmarks: Tensor, boxes: Tensor, size: tuple[int, int], places: tuple[int, int]) -> Tensor:
    """How near each place of a grid is to a face's features: bells as wide as an eighth of the box about each landmark.

    Args:
        landmarks: (N, 5, 2) eyes, nose and corners of the mouth, x and y in pixels.
        boxes: (N, 4) x1, y1, x2, y2 in pixels; a box of zeros, of no face, has no features.
        size: height and width of the picture.
        places: rows and columns h, w of the grid.

    Returns:
        (N, h, w) float32, 0 to 1.
    """
    apart = []
    for axis, whole, count in ((1, size[0], places[0]), (0, size[1], places[1])):
        centres = (torch.arange(count) + 0.5) * (whole / count)
        apart.append((landmarks[:, :, axis, None].float() - centres).square())  # (N, 5, count)
    distance = apart[0][:, :, :, None] + apart[1][:, :, None, :]  # (N, 5, h, w) squared
    wide = (boxes[:, 2] - boxes[:, 0]).float().clamp(min=1) / 8  # (N,)
    near = (-distance / (2 * wide.square()[:, None, None, None])).exp().amax(1)  # (N, h, w)
    return near * (boxes != 0).any(1).float()[:, None, None]
