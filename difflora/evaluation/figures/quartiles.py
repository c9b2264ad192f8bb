"""Fig. 4: which weights hold the person? A quarter of them by magnitude is zeroed, or noise is laid on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from difflora.evaluation.figures.canvas import (
    BLACK,
    BLUE,
    GREY,
    LIKENESS,
    ORANGE,
    RECOGNISER_NAMES,
    Array,
    Drawing,
    Summary,
    bars,
    panels,
)
from difflora.evaluation.intervals import difference, in_words, interval
from difflora.evaluation.measure import Measured
from difflora.evaluation.subjects import Subject
from difflora.lora import LoraLayout
from difflora.seeds import noise_seed

QUARTERS = ("smallest", "second", "third", "largest")
DAMAGES = ("zeroed", "perturbed")
DRAWN = 2 + len(QUARTERS) * len(DAMAGES)
"""Times that every prompt is drawn: by the base, by the whole LoRA, and under each damage of each quarter."""


class Scores(Protocol):
    """What ``Scorer`` does, as far as it is needed here."""

    def measure(self, subjects: Sequence[Subject], rows: Tensor | None) -> Measured:
        """Draws and scores every subject's prompts under (P, D) flat LoRAs; None for the base model alone."""


@dataclass(frozen=True)
class Quartiles:
    """Likeness under damaged LoRAs, by recogniser.

    Attributes:
        people: how many.
        prompts: of each.
        base: without any LoRA.
        intact: with the whole one.
        damaged: damage -> recogniser -> a summary a quarter, the smallest weights first.
        drop: damage -> recogniser -> intact minus damaged, paired over people, a summary a quarter.
        share_a: part of each quarter's weights that are of ``lora_A``.
    """

    people: int
    prompts: int
    base: dict[str, Summary]
    intact: dict[str, Summary]
    damaged: dict[str, dict[str, list[Summary]]]
    drop: dict[str, dict[str, list[Summary]]]
    share_a: list[float]


def quarters(rows: Tensor) -> Tensor:
    """Of each weight the quarter by magnitude in its own LoRA: (P, D) -> (P, D) int64, 0 the smallest to 3."""
    places = rows.abs().argsort(dim=1, stable=True)  # (P, D)
    ranks = torch.empty_like(places).scatter_(1, places, torch.arange(rows.shape[1]).expand_as(places))  # (P, D)
    return ranks * len(QUARTERS) // rows.shape[1]


def damage(rows: Tensor, quarter: int, kind: str, seeds: Sequence[int]) -> Tensor:
    """LoRAs with one quarter of their weights zeroed or perturbed.

    Args:
        rows: (P, D) float32.
        quarter: 0, the smallest, to 3.
        kind: ``zeroed``, or ``perturbed``: normal noise is added, of the standard deviation that the quarter's own
            weights have in that LoRA.
        seeds: P seeds of the noise.

    Returns:
        (P, D) float32.
    """
    hit = quarters(rows) == quarter  # (P, D)
    if kind == "zeroed":
        return rows.masked_fill(hit, 0)
    made = rows.clone()
    for row, chosen, seed in zip(made, hit, seeds, strict=True):
        noise = torch.randn(int(chosen.sum()), generator=torch.Generator().manual_seed(seed))
        row[chosen] += row[chosen].std(correction=0) * noise
    return made


def measure_quartiles(
    subjects: Sequence[Subject], rows: Tensor, layout: LoraLayout, scorer: Scores, seed: int
) -> Quartiles:
    """Draws and scores everyone's prompts under every damage.

    Args:
        subjects: P people, with the prompts to draw.
        rows: (P, D) float32, their teachers' LoRAs.
        layout: what the numbers are.
        scorer: draws and scores.
        seed: of the noise on weights.
    """
    intact, base = scorer.measure(subjects, rows).scores, scorer.measure(subjects, None).scores
    recognisers = [key for key in RECOGNISER_NAMES if key in intact]
    found: dict[str, list[Mapping[str, Array]]] = {
        kind: [
            scorer.measure(subjects, damage(rows, quarter, kind, _seeds(subjects, seed, quarter))).scores
            for quarter in range(len(QUARTERS))
        ]
        for kind in DAMAGES
    }
    of_a = torch.zeros(layout.size)
    for lora_a, _ in layout.views(of_a).values():
        lora_a.fill_(1)
    where = quarters(rows)
    return Quartiles(
        len(subjects),
        len(subjects[0].prompts),
        {key: interval(base[key]) for key in recognisers},
        {key: interval(intact[key]) for key in recognisers},
        {
            kind: {key: [interval(scores[key]) for scores in parts] for key in recognisers}
            for kind, parts in found.items()
        },
        {
            kind: {key: [difference(intact[key], scores[key]) for scores in parts] for key in recognisers}
            for kind, parts in found.items()
        },
        [float(of_a.expand_as(rows)[where == quarter].mean()) for quarter in range(len(QUARTERS))],
    )


def _seeds(subjects: Sequence[Subject], seed: int, quarter: int) -> list[int]:
    return [noise_seed(seed, subject.identity, "perturb", QUARTERS[quarter]) for subject in subjects]


def draw_quartiles(quartiles: Quartiles) -> Drawing:
    """A panel a recogniser: two bars a quarter between lines for the whole LoRA and for none."""
    recognisers = list(quartiles.intact)
    figure, axes = panels(len(recognisers), 1 + 4.2 * len(recognisers), 4.2, sharey=True)
    for panel, key in zip(axes, recognisers, strict=True):
        for summary, words, line in ((quartiles.intact[key], "whole LoRA", "-"), (quartiles.base[key], "no LoRA", ":")):
            panel.axhline(summary["mean"], color=BLACK, linestyle=line, linewidth=1.2, label=words)
            panel.axhspan(summary["low"], summary["high"], color=GREY, alpha=0.2, linewidth=0)
        for place, (kind, colour) in enumerate(zip(DAMAGES, (BLUE, ORANGE), strict=True)):
            places = [quarter + 0.4 * (place - 0.5) for quarter in range(len(QUARTERS))]
            bars(panel, places, quartiles.damaged[kind][key], width=0.4, color=colour, label=kind)
        panel.set_xticks(range(len(QUARTERS)), QUARTERS)
        panel.set_xlabel("quarter of the weights, by magnitude")
        panel.set_title(RECOGNISER_NAMES[key])
    axes[0].set_ylabel(LIKENESS)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=10, loc="outside lower center", ncols=4)
    key = recognisers[0]
    said = "; ".join(
        f"{QUARTERS[quarter]} quarter {kind}: {in_words(quartiles.drop[kind][key][quarter])}"
        for quarter in (0, 3)
        for kind in DAMAGES
    )
    shares = ", ".join(f"{share:.0%}" for share in quartiles.share_a)
    return Drawing(
        figure,
        "Fig. 4: what a quarter of the weights is worth",
        f"DreamBooth LoRAs of {quartiles.people} held-out people, {quartiles.prompts} prompts each, as the corpus "
        "stores them: one quarter of all numbers of A and B, by magnitude within the LoRA, is set to zero, or gets "
        "normal noise of its own standard deviation. Bands and whiskers are 95% bootstrap intervals over people. "
        f"Likeness lost, paired over people, by the {RECOGNISER_NAMES[key]}: {said}. Of the quarters from the smallest "
        f"to the largest, {shares} of the numbers are of A, which starts away from zero, where B starts.",
        f"Bars of likeness for each damaged quarter, lines for the whole LoRA "
        f"({quartiles.intact[key]['mean']:.2f}) and none ({quartiles.base[key]['mean']:.2f}). Lost: {said}.",
    )


def work(subjects: int, prompts: int) -> int:
    """Pictures that ``measure_quartiles`` draws."""
    return subjects * prompts * DRAWN
