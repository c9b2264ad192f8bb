"""What all figures share: panels of one look, colours that colour-blind people tell apart, and PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Array = np.ndarray[Any, np.dtype[np.float64]]
Summary = Mapping[str, float]
"""``mean``, ``low`` and ``high``, as ``difflora.evaluation.intervals`` gives them."""

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#8C8C8C"
PALETTE = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, BLACK)
"""Okabe and Ito's colours (Color Universal Design, 2008)."""

RECOGNISER_NAMES = {"face_sim": "pipeline's own recogniser", "face_sim_independent": "independent recogniser"}
LIKENESS = "likeness (cosine)"

_DPI = 144
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "grid.color": "#DDDDDD",
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its words.

    Attributes:
        figure: of matplotlib, not yet rendered.
        title: short.
        caption: what was measured and how, with the numbers that matter.
        alt: what is to be seen, for those who do not see it.
    """

    figure: Figure
    title: str
    caption: str
    alt: str


def panels(columns: int, width: float, height: float, rows: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A new figure of panels, row by row; nothing of it is known to pyplot.

    Args:
        columns: panels side by side.
        width: inches of the figure.
        height: inches.
        rows: panels on top of each other.
        **options: see ``Figure.subplots``.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def png(figure: Figure) -> bytes:
    """Renders a figure; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def whiskers(summaries: Sequence[Summary]) -> tuple[Array, Array]:
    """Means (N,) and the lengths (2, N) of their intervals below and above."""
    mean, low, high = (np.array([one[key] for one in summaries]) for key in ("mean", "low", "high"))
    return mean, np.maximum(0, [mean - low, high - mean])


def bars(axes: Axes, places: Sequence[float], summaries: Sequence[Summary], **options: Any) -> None:
    """Bars with their 95% intervals."""
    mean, lengths = whiskers(summaries)
    axes.bar(places, mean, yerr=lengths, capsize=3, error_kw={"elinewidth": 1.2, "ecolor": BLACK}, **options)
