"""Likeness of generated LoRAs against the number of training people, from the ablations' rows.

``reports/ablations.json`` has them, and other keys are passed over:

    {"train_people": [{"people": 32, "face_sim": {"mean": 0.31, "low": 0.27, "high": 0.35}, ...}, ...]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from difflora.errors import BadFile
from difflora.evaluation.figures.canvas import (
    LIKENESS,
    PALETTE,
    RECOGNISER_NAMES,
    Drawing,
    Summary,
    panels,
    whiskers,
)
from difflora.evaluation.intervals import in_words

_MARKERS = "os"
_PARTS = ("mean", "low", "high")


@dataclass(frozen=True)
class Growth:
    """Likeness over training people.

    Attributes:
        counts: N numbers of training people, rising.
        lines: recogniser -> N summaries.
    """

    counts: list[int]
    lines: dict[str, list[Summary]]


def read_growth(ablations: Mapping[str, Any], where: str = "ablations.json") -> Growth:
    """Takes the rows ``train_people`` of the ablations; see the module for the format.

    Raises:
        BadFile: if a row lacks a number, or there are fewer than two rows.
    """
    try:
        rows = sorted(ablations["train_people"], key=lambda row: int(row["people"]))
        counts = [int(row["people"]) for row in rows]
        if len(set(counts)) < max(2, len(counts)):
            raise ValueError(f"rows of {counts} people; two or more of different numbers are needed")
        lines: dict[str, list[Summary]] = {
            key: [{part: float(row[key][part]) for part in _PARTS} for row in rows]
            for key in RECOGNISER_NAMES
            if any(key in row for row in rows)
        }
        if not lines:
            raise KeyError("face_sim")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFile(
            f"{where}: train_people is no list of rows with likeness ({error}); run `difflora ablate people`"
        ) from error
    return Growth(counts, lines)


def draw_growth(growth: Growth) -> Drawing:
    """A line a recogniser, the number of people on a logarithmic scale."""
    figure, (axes,) = panels(1, 6.5, 4)
    for place, (key, summaries) in enumerate(growth.lines.items()):
        mean, lengths = whiskers(summaries)
        axes.errorbar(
            growth.counts,
            mean,
            lengths,
            color=PALETTE[place],
            marker=_MARKERS[place],
            capsize=3,
            linewidth=1.8,
            label=RECOGNISER_NAMES[key],
        )
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(growth.counts, [str(count) for count in growth.counts])
    axes.set_xlabel("training people")
    axes.set_ylabel(LIKENESS)
    axes.legend(frameon=False, fontsize=10)
    said = "; ".join(
        f"{RECOGNISER_NAMES[key]}, {in_words(line[0])} with {growth.counts[0]} people to {in_words(line[-1])} with "
        f"{growth.counts[-1]}"
        for key, line in growth.lines.items()
    )
    return Drawing(
        figure,
        "Likeness by the number of training people",
        "Generated LoRAs of the chain as trained on so many people, the first ones of the split, measured on the same "
        f"held-out people at the strength chosen for each; whiskers are 95% bootstrap intervals over people: {said}.",
        f"Lines of likeness over the number of training people: {said}.",
    )
