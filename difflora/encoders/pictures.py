"""Pictures as the encoders take them: RGB, upright, of a sensible shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from difflora.errors import BadImage

Picture = Image.Image | np.ndarray[Any, np.dtype[Any]]
"""A PIL image, or an array (H, W, 3) uint8, RGB."""

_LEAST_SIDE, _MOST_ASPECT = 16, 8


def to_rgb(picture: Picture, name: str = "the picture") -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture as an array.

    Args:
        picture: a PIL image of any mode (turned upright by its EXIF data), or (H, W, 3) uint8 in RGB.
        name: what to call it in errors.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        BadImage: if it is something else, is smaller than 16 pixels, or is over eight times as long as wide.
    """
    if isinstance(picture, Image.Image):
        picture = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        what = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise BadImage(f"{name} is {what}; give a PIL image or a uint8 array of shape (height, width, 3)")
    height, width = picture.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise BadImage(f"{name} is {width} x {height} pixels; the least is {_LEAST_SIDE} a side")
    if max(height, width) > _MOST_ASPECT * min(height, width):
        raise BadImage(f"{name} is {width} x {height} pixels; crop it to the face, it is too long a strip")
    return picture
