"""Training curves: the losses that the steps ``lae`` and ``dit`` leave as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from difflora.errors import BadFile
from difflora.evaluation.figures.canvas import PALETTE, Drawing, panels

PATTERN = "*_loss.csv"
TITLES = {
    "lae_loss": "autoencoder",
    "dit_loss": "diffusion transformer",
    "effect_loss": "both, through the frozen base",
    "refine_loss": "latents moved by likeness",
}


@dataclass(frozen=True)
class Curve:
    """A training's losses.

    Attributes:
        name: the file's, without ``.csv``.
        steps: N steps.
        losses: name -> N means since the step before.
    """

    name: str
    steps: list[float]
    losses: dict[str, list[float]]


def read_curves(paths: Sequence[Path]) -> list[Curve]:
    """Reads what ``write_curve`` wrote, in the order of the chain; files without a line are left out.

    Raises:
        BadFile: if a file holds no numbers under ``step`` and others.
    """
    known = list(TITLES)
    order = sorted(paths, key=lambda path: (known.index(path.stem) if path.stem in known else len(known), path.stem))
    return [curve for curve in map(_read, order) if curve.steps]


def _read(path: Path) -> Curve:
    try:
        with path.open(newline="") as file:
            lines = [{key: float(value) for key, value in line.items()} for line in csv.DictReader(file)]
        steps = [line.pop("step") for line in lines]
        losses = {key: [line[key] for line in lines] for key in (lines[0] if lines else ())}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadFile(f"{path}: holds no losses over steps ({error!r}); run the step that writes it again") from error
    return Curve(path.stem, steps, losses)


def draw_curves(curves: Sequence[Curve]) -> Drawing:
    """A panel a training, the loss that is minimised thicker than its parts."""
    figure, axes = panels(len(curves), 1.2 + 3.6 * len(curves), 3.6)
    for panel, curve in zip(axes, curves, strict=True):
        for place, (name, values) in enumerate(curve.losses.items()):
            panel.plot(
                curve.steps,
                values,
                color=PALETTE[place % len(PALETTE)],
                linewidth=2.2 if name == "loss" else 1.2,
                linestyle="-" if name == "loss" else "--",
                marker="." if len(values) < 3 else None,
                label=name.replace("_", " "),
            )
        if all(0 < value < math.inf for values in curve.losses.values() for value in values):
            panel.set_yscale("log")
        panel.set_title(TITLES.get(curve.name, curve.name))
        panel.set_xlabel("optimisation step")
        panel.legend(frameon=False, fontsize=9)
    axes[0].set_ylabel("training loss")
    ends = "; ".join(f"{TITLES.get(curve.name, curve.name)} {_ends(curve.losses)}" for curve in curves)
    return Drawing(
        figure,
        "Training curves",
        "Training losses over optimisation steps, each point the mean since the one before; the scale is logarithmic "
        f"where all are above zero. First and last loss: {ends}.",
        f"Lines of training losses that go from first to last value as follows: {ends}.",
    )


def _ends(losses: Mapping[str, Sequence[float]]) -> str:
    values = losses.get("loss") or next(iter(losses.values()))
    return f"{values[0]:.3g} to {values[-1]:.3g}"
