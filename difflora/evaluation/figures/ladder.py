"""The ladder: likeness from the base model to the real person, by both recognisers, from ``evaluation.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from difflora.errors import BadFile
from difflora.evaluation.figures.canvas import (
    BLACK,
    LIKENESS,
    PALETTE,
    RECOGNISER_NAMES,
    Drawing,
    Summary,
    bars,
    panels,
)
from difflora.evaluation.intervals import in_words
from difflora.evaluation.losses import RUNGS

NAMES = {
    "base": "base\nmodel",
    "other": "another\nperson's LoRA",
    "generated": "generated",
    "reconstruction": "autoencoder's\nreconstruction",
    "teacher": "own\nDreamBooth LoRA",
    "real": "real\npictures",
}


@dataclass(frozen=True)
class Rungs:
    """Likeness of each rung.

    Attributes:
        people: who was measured.
        names: the rungs.
        best: recogniser -> a summary a rung, at each method's chosen strength.
        native: the same at strength 1.
        fraction: recogniser -> (generated - base) / (teacher - base); None where the teacher gains nothing.
    """

    people: int
    names: list[str]
    best: dict[str, list[Summary]]
    native: dict[str, list[Summary]]
    fraction: dict[str, Summary | None]


def read_rungs(figures: Mapping[str, Any], where: str = "evaluation.json") -> Rungs:
    """Takes the rungs from an evaluation's figures.

    Args:
        figures: what ``summarise`` gives.
        where: file for the error.

    Raises:
        BadFile: if they are no figures of an evaluation.
    """
    try:
        best, native = figures["methods"], figures["methods_native"]
        names = [name for name in reversed(RUNGS) if name in best]
        recognisers = [key for key in RECOGNISER_NAMES if all(key in best[name] for name in names)]
        if not names or not recognisers:
            raise KeyError("face_sim")
        return Rungs(
            int(figures["people"]),
            names,
            {key: [best[name][key] for name in names] for key in recognisers},
            {key: [native[name][key] for name in names] for key in recognisers},
            {key: figures["fraction"].get(key) for key in recognisers},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BadFile(
            f"{where}: holds no figures of an evaluation ({error!r}); run `difflora stage evaluate`"
        ) from error


def draw_rungs(rungs: Rungs) -> Drawing:
    """Bars side by side for each recogniser, with what strength 1 gives marked on them."""
    figure, (axes,) = panels(1, 9, 4.2)
    width = 0.8 / len(rungs.best)
    for place, (key, summaries) in enumerate(rungs.best.items()):
        places = [rung + (place - (len(rungs.best) - 1) / 2) * width for rung in range(len(rungs.names))]
        bars(axes, places, summaries, width=width, color=PALETTE[place], label=RECOGNISER_NAMES[key])
        native = [one["mean"] for one in rungs.native[key]]
        label = "at strength 1" if place == 0 else None
        axes.plot(places, native, "D", color="white", markeredgecolor=BLACK, markersize=5, label=label)
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set_xticks(range(len(rungs.names)), [NAMES[name] for name in rungs.names])
    axes.set_ylabel(LIKENESS)
    axes.legend(frameon=False, fontsize=10, loc="upper left")
    said = [
        f"{in_words(fraction) if fraction else 'undefined'} by the {RECOGNISER_NAMES[key]}"
        for key, fraction in rungs.fraction.items()
    ]
    first = next(iter(rungs.best))
    seen = ", ".join(
        f"{name} {summary['mean']:.2f}" for name, summary in zip(rungs.names, rungs.best[first], strict=True)
    )
    return Drawing(
        figure,
        "From the base model to the person",
        f"Mean cosine with other pictures of {rungs.people} people whom no model has seen; bars are at each method's "
        "strength as chosen on validation people, diamonds at strength 1, whiskers are 95% bootstrap intervals over "
        "people. The recogniser of the pipeline also filters pictures and conditions the hypernetwork; the independent "
        f"one does neither. (generated - base) / (teacher - base): {'; '.join(said)}.",
        f"Bars of likeness, {RECOGNISER_NAMES[first]}: {seen}.",
    )
