"""The table that ``difflora world verify`` shows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from difflora.world.verify import Row, goal_in_words


def print_rows(rows: Sequence[Row], console: Console | None = None) -> None:
    """Shows a row a bar: model, name, goal, figure, passed."""
    table = Table("model", "bar", "goal", "figure", "passed", title="The world's bars")
    for row in rows:
        bar = row.bar
        goal = goal_in_words(bar.goal, bar.at_least)
        verdict = "[green]yes[/]" if bar.passed else "[red]no[/]"
        table.add_row(row.model, bar.name, goal, f"{bar.figure:.4g}", "" if goal == "-" and bar.passed else verdict)
    (console or Console()).print(table)
