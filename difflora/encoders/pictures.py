"""Pictures as the encoders take them: RGB, upright, of a sensible shape."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from difflora.errors import BadImage

Picture = Image.Image | np.ndarray[Any, np.dtype[Any]]
"""A PIL image, or an array (H, W, 3) uint8, RGB."""

PictureSource = str | Path | bytes | Image.Image
"""A picture's path, the bytes of its file, or the picture."""

_FORMATS = ("JPEG", "PNG", "WEBP")
_LEAST_SIDE, _MOST_ASPECT = 16, 8


def to_rgb(picture: Picture, name: str = "the picture") -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture as an array.

    Args:
        picture: a PIL image of any mode, or (H, W, 3) uint8 in RGB. A PIL image is turned upright by its EXIF data;
            16 bits become 8, and what is transparent becomes white.
        name: what to call it in errors.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        BadImage: if it is something else, is smaller than 16 pixels, or is over eight times as long as wide.
    """
    if isinstance(picture, Image.Image):
        picture = np.asarray(_opaque(ImageOps.exif_transpose(picture)))
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        what = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise BadImage(f"{name} is {what}; give a PIL image or a uint8 array of shape (height, width, 3)")
    height, width = picture.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise BadImage(f"{name} is {width} x {height} pixels; the least is {_LEAST_SIDE} a side")
    if max(height, width) > _MOST_ASPECT * min(height, width):
        raise BadImage(f"{name} is {width} x {height} pixels; crop it to the face, it is too long a strip")
    return picture


def read_picture(source: PictureSource, name: str | None = None) -> Image.Image:
    """Reads a JPEG, PNG or WebP, told by its content; upright, RGB.

    Args:
        source: a path, a file's bytes, or a PIL image.
        name: what to call it in errors; None for the path.

    Returns:
        The decoded picture; the first one of a JPEG that holds several, as telephones write them.

    Raises:
        BadImage: if it is missing, damaged, of another format, animated, too large (Pillow's limit against
            decompression bombs), smaller than 16 pixels, or over eight times as long as wide.
    """
    if isinstance(source, Image.Image):
        return Image.fromarray(to_rgb(source, name or "the picture"))
    label = name or ("the picture" if isinstance(source, bytes) else str(source))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
            with Image.open(file, formats=_FORMATS) as picture:
                frames = getattr(picture, "n_frames", 1)
                if frames > 1 and picture.format in ("PNG", "WEBP"):
                    raise BadImage(f"{label}: is animated ({frames} frames); give one frame of it")
                picture.load()
                return Image.fromarray(to_rgb(picture, label))
    except FileNotFoundError as error:
        raise BadImage(f"{label}: no such file; give the path of a picture") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage(f"{label}: has too many pixels ({error}); make it smaller") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise BadImage(f"{label}: not a whole JPEG, PNG or WebP picture ({error}); give another file") from error


def _opaque(picture: Image.Image) -> Image.Image:
    """Any mode as RGB: Pillow itself would clip 16 bits to white, and show what lies under transparent pixels."""
    if picture.mode.startswith("I"):
        depth = np.asarray(picture).astype(np.int64) >> 8  # (H, W), of a 16-bit PNG
        return Image.fromarray(depth.clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")
