"""How pictures come to one size, and what SDXL is told of it: its micro-conditioning (arXiv 2307.01952, 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.corpus.settings import DreamBoothSettings
from difflora.seeds import noise_seed


def whole_time_ids(count: int, size: Sequence[int]) -> Tensor:
    """Of pictures that were neither resized nor cropped: (count, 6) float32.

    Args:
        count: of pictures.
        size: their height and width in pixels.
    """
    height, width = size
    return torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32).repeat(count, 1)


def frame(
    images: Tensor, boxes: Tensor, landmarks: Tensor, settings: DreamBoothSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Brings pictures to squares of ``settings.resolution``, as diffusers' SDXL scripts do.

    The shorter side is resized to the resolution, the longer one keeps the aspect and is cropped. Random places are a
    function of the seed and a picture's number, so that all people share them as they share the noise.

    Args:
        images: (M, 3, H, W) uint8.
        boxes: (M, 4) x1, y1, x2, y2 in pixels.
        landmarks: (M, 5, 2) x and y in pixels.
        settings: with ``resolution``, ``crop`` and ``seed``.

    Returns:
        Pictures (M, 3, R, R) uint8, or as they were where there is no resolution; where boxes (M, 4) and landmarks
        (M, 5, 2) are in them, outside too; and time ids (M, 6) float32: original height and width, top and left of the
        crop after resizing, target height and width.
    """
    count, _, height, width = images.shape
    side = settings.resolution
    if side is None:
        return images, boxes, landmarks, whole_time_ids(count, (height, width))
    short = min(height, width)
    rows, columns = side * height // short, side * width // short
    if (rows, columns) != (height, width):
        resized = F.interpolate(images.float(), (rows, columns), mode="bilinear", align_corners=False, antialias=True)
        images = resized.round().clamp(0, 255).byte()  # (M, 3, rows, columns)
    free = torch.tensor([rows - side, columns - side])
    if settings.crop == "center":
        corners = (free / 2).round().long().expand(count, 2)
    else:
        generator = torch.Generator().manual_seed(noise_seed(settings.seed, "crop"))
        corners = (torch.rand(count, 2, generator=generator) * (free + 1)).long().minimum(free)
    cropped = [
        image[:, top : top + side, left : left + side]
        for image, (top, left) in zip(images, corners.tolist(), strict=True)
    ]
    told = torch.tensor([height, width, 0, 0, side, side], dtype=torch.float32).repeat(count, 1)
    told[:, 2:4] = corners
    stretch, corner = torch.tensor([columns / width, rows / height]), corners.flip(1)  # (2,), (M, 2)
    moved = boxes * stretch.repeat(2) - corner.repeat(1, 2), landmarks * stretch - corner[:, None]
    return torch.stack(cropped), *moved, told


def framed_size(size: tuple[int, int], settings: DreamBoothSettings) -> tuple[int, int]:
    """Height and width that pictures of a size are brought to."""
    return size if settings.resolution is None else (settings.resolution, settings.resolution)
