"""Rows of pictures with a label beside each, as one PNG."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_SIDE, _GAP, _TEXT = 128, 6, 260


def grid(rows: Sequence[Tensor], labels: Sequence[str]) -> bytes:
    """Rows of pictures under each other with a label to the left.

    Args:
        rows: each (columns, 3, H, W) float in [0, 1]; pictures are brought to 128 pixels a side, larger ones stay.
        labels: one a row.

    Returns:
        The bytes of a PNG.
    """
    height, width = (max(_SIDE, side) for side in rows[0].shape[-2:])
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (_TEXT + columns * (width + _GAP), len(rows) * (height + _GAP) + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for j, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = _GAP + j * (height + _GAP)
        pen.multiline_text((_GAP * 2, top + _GAP), textwrap.fill(label, 34), fill="black", font=font, spacing=3)
        for i, picture in enumerate(row):
            pixels = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0)  # (H, W, 3)
            tile = Image.fromarray(np.asarray(pixels)).resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(tile, (_TEXT + i * (width + _GAP), top))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def as_tensor(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """A picture brought to (height, width), its whole in the middle of a white ground: (1, 3, H, W) in [0, 1]."""
    height, width = size
    small = picture.convert("RGB")
    scale = min(height / small.height, width / small.width)
    small = small.resize((max(1, round(scale * small.width)), max(1, round(scale * small.height))))
    ground = Image.new("RGB", (width, height), "white")
    ground.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
    return torch.from_numpy(np.array(ground)).permute(2, 0, 1)[None].float() / 255
