"""Bars of every case: which part of the copy's bandwidth each method reaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from timing import Result

mpl.use("Agg")

from matplotlib import pyplot as plt


def plot(results: Sequence[Result], path: Path) -> None:
    """Writes one picture with a panel a benchmark."""
    benchmarks = list(dict.fromkeys(row.benchmark for row in results))
    counts = [sum(row.benchmark == benchmark for row in results) for benchmark in benchmarks]
    size = 10, 0.5 + len(benchmarks) + 0.22 * len(results)  # an inch of each panel is title and axis
    figure, panels = plt.subplots(len(benchmarks), 1, figsize=size, squeeze=False, height_ratios=counts)
    for panel, benchmark in zip(panels[:, 0], benchmarks, strict=True):
        rows = [row for row in results if row.benchmark == benchmark]
        methods = list(dict.fromkeys(row.method for row in rows))
        places = range(len(rows), 0, -1)
        colours = [f"C{methods.index(row.method)}" for row in rows]
        panel.barh(places, [row.of_copy for row in rows], color=colours)
        panel.set_yticks(list(places), [f"{row.case}: {row.method}" for row in rows], fontsize=7)
        for place, row in zip(places, rows, strict=True):
            panel.text(row.of_copy, place, f" {row.milliseconds:.3g} ms", va="center", fontsize=7)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_xlabel("bandwidth, as a part of a copy's")
        panel.set_title(benchmark, fontsize=9)
    figure.suptitle(results[0].machine, fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
