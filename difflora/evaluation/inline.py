"""Pictures as ``data:`` addresses, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from difflora.encoders.pictures import read_picture

_SIDE = 192
_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def drawing(path: Path) -> str:
    """A PNG or SVG as it is. A page shows it by ``img``, where an SVG runs no script and loads nothing."""
    return _address(path.read_bytes(), _TYPES[path.suffix])


def thumbnail(path: Path) -> str:
    """A picture of at most 192 pixels a side: small ones without loss, others as JPEG.

    Raises:
        BadImage: if it is damaged.
    """
    picture = read_picture(path)
    buffer = io.BytesIO()
    if max(picture.size) <= _SIDE:
        picture.save(buffer, "PNG", optimize=True)
        return _address(buffer.getvalue(), "image/png")
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    picture.save(buffer, "JPEG", quality=85)
    return _address(buffer.getvalue(), "image/jpeg")


def _address(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
