"""The evaluation's figures as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

_COLUMNS = {
    "face_sim": "face sim",
    "face_sim_independent": "independent",
    "agreement": "prompts followed",
    "faces_found": "faces found",
}


def ladder_table(figures: Mapping[str, Any]) -> Table:
    """A row a method: each figure at the method's best strength, and likeness at strength 1.

    Args:
        figures: what ``summarise`` gives.
    """
    native, best = figures["methods_native"], figures["methods"]
    shown = [key for key in _COLUMNS if any(key in row for row in best.values())]
    table = Table(title=f"{figures['people']} unseen people, {figures['prompts']} prompts each; 95% intervals")
    table.add_column("method")
    table.add_column("face sim, S = 1", justify="right")
    table.add_column("S", justify="right")
    for key in shown:
        table.add_column(_COLUMNS[key], justify="right")
    for name, row in best.items():
        strength = figures["strength"].get(name)
        cells = [_cell(row.get(key)) for key in shown]
        table.add_row(name, _cell(native[name].get("face_sim")), f"{strength:g}" if strength else "", *cells)
    return table


def summary_lines(figures: Mapping[str, Any]) -> list[str]:
    """The figures that decide, in words."""
    lines = []
    for key in figures["fraction"]:
        best, native = figures["fraction"][key], figures["fraction_native"][key]
        lines.append(
            f"fraction of the teacher's gain by {key}: {_cell(best)} at best strengths, {_cell(native)} at strength 1"
        )
    for other in ("retrieval", "ridge", "mlp", "teacher"):
        if f"generated_minus_{other}" not in figures["paired"]:
            continue
        lines.append(f"generated minus {other}: {_cell(figures['paired'][f'generated_minus_{other}']['face_sim'])}")
    return lines


def _cell(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
