"""Crop and flip (Fig. 5): small changes of framing that keep the face whole and the caption true."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

_SIDES = {"left": "right", "right": "left"}
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


class AugmentSettings(BaseModel):
    """How pictures are cropped and mirrored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    copies: int = Field(1, ge=1, description="pictures made of each kept one")
    least_crop: float = Field(0.85, gt=0, le=1, description="smallest side of a crop, relative; 1 for none")
    flip: float = Field(0.5, ge=0, le=1, description="probability of mirroring")


def augment(
    images: Tensor,
    captions: list[str],
    boxes: Tensor,
    landmarks: Tensor,
    settings: AugmentSettings,
    generator: torch.Generator,
) -> tuple[Tensor, list[str], Tensor, Tensor]:
    """Crops each picture to a random part of the same shape that holds the face, and mirrors some.

    Args:
        images: (M, 3, H, W) uint8.
        captions: M prompts.
        boxes: (M, 4) the faces, x1, y1, x2, y2 in pixels.
        landmarks: (M, 5, 2) their features, in pixels.
        settings: how much.
        generator: draws sides, places and who is mirrored.

    Returns:
        Pictures (M * copies, 3, H, W) uint8, their captions, and where faces (M * copies, 4) and features
        (M * copies, 5, 2) now are, copy after copy; left and right are exchanged in the captions and among the features
        of mirrored ones.
    """
    made, said, faces, features = [], [], [], []
    for _ in range(settings.copies):
        for image, caption, box, points in zip(images, captions, boxes, landmarks, strict=True):
            side, down, across, mirror = torch.rand(4, generator=generator).tolist()
            part = settings.least_crop + (1 - settings.least_crop) * side
            cropped, face, feature = _crop(image, box, points, part, down, across)
            flipped = mirror < settings.flip
            made.append(cropped.flip(-1) if flipped else cropped)
            said.append(mirror_words(caption) if flipped else caption)
            if flipped:
                face, feature = _mirror(face, feature, image.shape[2])
            faces.append(face)
            features.append(feature)
    return torch.stack(made), said, torch.stack(faces), torch.stack(features)


def mirror_words(caption: str) -> str:
    """The caption of the mirrored picture: left for right and right for left."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        swapped = _SIDES[word.lower()]
        return swapped.capitalize() if word[0].isupper() else swapped

    return _SIDE.sub(other, caption)


_OTHER_SIDE = [1, 0, 2, 4, 3]
"""Landmarks in the mirror: the eyes change places, and the corners of the mouth."""


def _mirror(box: Tensor, points: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Where a box (4,) and its points (5, 2) are in the mirrored picture; a box of zeros, of no face, stays."""
    if not bool(box.any()):
        return box, points
    x1, y1, x2, y2 = box.unbind()
    across, down = points[_OTHER_SIDE].unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2]), torch.stack([width - across, down], 1)


def _crop(
    image: Tensor, box: Tensor, points: Tensor, part: float, down: float, across: float
) -> tuple[Tensor, Tensor, Tensor]:
    """A part of the picture's own shape around the box, at the picture's size, (3, H, W) uint8; box and points in it.

    Args:
        image: (3, H, W) uint8.
        box: (4,) what must stay inside, as far as it is in the picture.
        points: (5, 2) the landmarks.
        part: side of the crop over the picture's, at most 1; larger where the box needs it.
        down: where the crop lies, 0 to 1, of the places that keep the box inside.
        across: the same, left to right.
    """
    height, width = image.shape[1:]
    x1, y1, x2, y2 = box.tolist()
    x1, x2 = max(0.0, x1), min(float(width), x2)
    y1, y2 = max(0.0, y1), min(float(height), y2)
    part = min(1.0, max(part, (x2 - x1) / width, (y2 - y1) / height))
    rows, columns = round(part * height), round(part * width)
    if (rows, columns) == (height, width):
        return image, box, points
    top = _place(y1, y2, rows, height, down)
    left = _place(x1, x2, columns, width, across)
    window = image[None, :, top : top + rows, left : left + columns].float()
    resized = F.interpolate(window, (height, width), mode="bilinear", align_corners=False, antialias=True)
    if bool(box.any()):
        corner, stretch = torch.tensor([left, top]), torch.tensor([width / columns, height / rows])
        box, points = (box - corner.repeat(2)) * stretch.repeat(2), (points - corner) * stretch
    return resized[0].round().clamp(0, 255).byte(), box, points


def _place(low: float, high: float, side: int, whole: int, where: float) -> int:
    """Where a window of ``side`` begins in ``whole`` so that it holds low to high (rounded), ``where`` of the way."""
    least, most = max(0, round(high) - side), min(whole - side, round(low))
    least = min(max(0, least), whole - side)
    most = max(least, most)
    return least + min(int(where * (most - least + 1)), most - least)
