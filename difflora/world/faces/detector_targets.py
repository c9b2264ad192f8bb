"""SCRFD's anchors: where they stand, which of them a face belongs to, and how boxes and landmarks are written there."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

STRIDES = (8, 16, 32)
ANCHOR_SIZES = ((16.0, 28.0), (40.0, 56.0), (80.0, 112.0))
"""Side of a face in pixels that each of a place's two anchors is for, by stride."""

_BAND = math.log(1.5)
_REACH = 0.75


@cache
def anchors(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """All anchors of a picture in InsightFace's order: by stride, row, column, anchor.

    Args:
        height: of the picture in pixels, a multiple of 32.
        width: likewise.

    Returns:
        Places (M, 2) x and y in pixels (cell i stands at i * stride), strides (M,), sizes (M,); float32.

    Raises:
        ValueError: if a side is no multiple of 32.
    """
    if height % STRIDES[-1] or width % STRIDES[-1]:
        raise ValueError(f"{width} x {height} pixels: sides must be multiples of {STRIDES[-1]}")
    places, strides, sizes = [], [], []
    for stride, pair in zip(STRIDES, ANCHOR_SIZES, strict=True):
        rows, columns = height // stride, width // stride
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        cells = torch.stack([x, y], dim=-1).reshape(-1, 1, 2).float() * stride  # (H*W, 1, 2)
        places.append(cells.expand(-1, len(pair), 2).reshape(-1, 2))
        strides.append(torch.full((rows * columns * len(pair),), float(stride)))
        sizes.append(torch.tensor(pair).repeat(rows * columns))
    return torch.cat(places), torch.cat(strides), torch.cat(sizes)


def assign(boxes: Tensor, present: Tensor, height: int, width: int) -> Tensor:
    """Which anchors must find each picture's face: those about its centre whose size is within a factor of 1.5.

    Args:
        boxes: (B, 4) float32, x1, y1, x2, y2 in pixels; one a picture.
        present: (B,) bool, false where there is no face.
        height: of the pictures.
        width: likewise.

    Returns:
        (B, M) bool.
    """
    places, strides, sizes = anchors(height, width)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2  # (B, 2)
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=1e-6).sqrt()  # (B,)
    away = (places[None] - centre[:, None]).abs().amax(dim=-1)  # (B, M)
    fits = (side[:, None] / sizes[None]).log().abs() < _BAND
    return fits & (away <= _REACH * strides) & present[:, None]


def encode_boxes(boxes: Tensor, places: Tensor, strides: Tensor) -> Tensor:
    """Distances from anchors to a box's left, top, right and bottom, in strides.

    Args:
        boxes: (..., 4) float32 in pixels.
        places: (..., 2) float32.
        strides: (...,) float32.

    Returns:
        (..., 4) float32.
    """
    return torch.cat([places - boxes[..., :2], boxes[..., 2:] - places], dim=-1) / strides[..., None]


def decode_boxes(distances: Tensor, places: Tensor, strides: Tensor) -> Tensor:
    """The inverse of :func:`encode_boxes`, as InsightFace does it (``distance2bbox``); boxes (..., 4) in pixels."""
    away = distances * strides[..., None]
    return torch.cat([places - away[..., :2], places + away[..., 2:]], dim=-1)


def encode_landmarks(landmarks: Tensor, places: Tensor, strides: Tensor) -> Tensor:
    """Offsets of landmarks (..., 5, 2) from anchors, in strides: (..., 10), x and y in turn."""
    offsets = (landmarks - places[..., None, :]) / strides[..., None, None]
    return offsets.flatten(-2)


def decode_landmarks(offsets: Tensor, places: Tensor, strides: Tensor) -> Tensor:
    """The inverse of :func:`encode_landmarks` (InsightFace's ``distance2kps``): (..., 5, 2) in pixels."""
    points = offsets.reshape(*offsets.shape[:-1], 5, 2) * strides[..., None, None]
    return points + places[..., None, :]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) with boxes (..., 4): (...,)."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    area = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(dim=-1) + (b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=-1)
    return shared / (area - shared).clamp(min=1e-6)
