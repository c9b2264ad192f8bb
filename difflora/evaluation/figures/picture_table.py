"""Pictures in rows and columns with words at both, as one figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from difflora.evaluation.figures.canvas import panels

_SIDE, _GAP = 128, 8
_MARK = 22
"""Pixels under a picture for what is written there."""
_INCH = 100
"""Pixels of a picture to an inch of the figure."""
_LABEL = 26
"""Letters of a row's words on a line, for which ``_WORDS`` are left."""
_WORDS, _HEAD = 2.1, 0.45
"""Inches to the left for rows' words, and above for columns'."""


def picture_table(
    rows: Sequence[Sequence[Tensor | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    marks: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """A figure of pictures.

    Args:
        rows: pictures (3, H, W) float in [0, 1], brought to 128 pixels a side where they are smaller; None for a blank.
        row_labels: one a row, to its left.
        column_labels: one a column, above.
        marks: what is written under each picture; None for nothing under any.
    """
    side = max(_SIDE, *(max(one.shape[-2:]) for row in rows for one in row if one is not None))
    under = 0 if marks is None else round(_MARK * side / _SIDE)
    width, height = side + _GAP, side + under + _GAP
    sheet = np.full((len(rows) * height, len(column_labels) * width, 3), 255, dtype=np.uint8)
    for j, row in enumerate(rows):
        for i, picture in enumerate(row):
            if picture is not None:
                sheet[j * height : j * height + side, i * width : i * width + side] = _tile(picture, side)
    scale = _SIDE / side / _INCH  # inches a pixel
    across, down = sheet.shape[1] * scale, sheet.shape[0] * scale
    figure, (axes,) = panels(1, across + _WORDS, down + _HEAD)
    figure.set_layout_engine("none")
    axes.set_position((_WORDS / (across + _WORDS), 0, across / (across + _WORDS), down / (down + _HEAD)))
    axes.imshow(sheet, interpolation="none", aspect="auto")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False, labelsize=9)
    axes.set_xticks([i * width + side / 2 for i in range(len(column_labels))], list(column_labels))
    wrapped = [textwrap.fill(label, _LABEL) for label in row_labels]
    axes.set_yticks([j * height + side / 2 for j in range(len(rows))], wrapped)
    for j, line in enumerate(marks or ()):
        for i, mark in enumerate(line):
            middle = i * width + side / 2, j * height + side + under / 2
            axes.text(*middle, mark, ha="center", va="center", fontsize=8)
    return figure


def _tile(picture: Tensor, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous()  # (H, W, 3)
    return np.asarray(Image.fromarray(pixels.numpy()).resize((side, side), Image.Resampling.LANCZOS))
