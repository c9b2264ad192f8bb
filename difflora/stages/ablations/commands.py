"""``difflora ablate``: the chain with one thing changed, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def ablate(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ROW|GROUP]...", help="What to compare; see --list. None for all.")
    ] = None,
    params: Annotated[Path, typer.Option(metavar="FILE", help="The chain's parameters.")] = Path("params.yaml"),
    list_: Annotated[bool, typer.Option("--list", help="Say which rows and groups there are, and stop.")] = False,
) -> None:
    """Change one thing of the chain at a time and measure likeness again, on the same people, prompts and noise.

    Run the chain first (`dvc repro`): rows share its people, corpus and models, and make only what their change
    touches. What was made for the same inputs is not made again, and a call that was stopped goes on.

    Example: difflora ablate table3
    """
    from rich.console import Console

    from difflora.stages.ablations.catalogue import CATALOGUE, GROUPS, rows_called

    console = Console(soft_wrap=True)
    if list_:
        for group, rows in GROUPS.items():
            console.print(f"[bold]{group}[/]: {', '.join(rows)}", highlight=False)
        for row in CATALOGUE:
            changes = ", ".join(f"{key} = {value}" for key, value in row.told.items())
            console.print(f"{row.name:26s} {row.says}" + (f" ({changes})" if changes else ""), highlight=False)
        return
    chosen = rows_called(names or [])
    from difflora.stages.ablations.run import REPORT, run_ablations
    from difflora.stages.params import load_params
    from difflora.stages.workspace import Workspace

    workspace = Workspace(params.parent, load_params(params))
    figures = run_ablations(workspace, chosen)
    console.print(_table(figures))
    for name, reason in figures["left_out"].items():
        console.print(f"{name} was left out: {reason}", highlight=False)
    console.print(f"All figures: {workspace.report(REPORT)}", highlight=False)


def _table(figures: dict[str, Any]) -> Any:
    from rich.table import Table

    from difflora.evaluation.intervals import in_words

    def cell(figure: dict[str, float] | None) -> str:
        return "" if figure is None else in_words(figure)

    table = Table(title=f"{figures['people']} unseen people; best strengths; 95% intervals over people")
    table.add_column("row")
    table.add_column("what changed")
    for title in ("S", "face sim", "prompts followed", "face sim minus", "of"):
        table.add_column(title, justify="right" if title != "of" else "left")
    for name, row in figures["rows"].items():
        table.add_row(
            name,
            row["says"],
            f"{row['strength']:g}",
            cell(row["best"].get("face_sim")),
            cell(row["best"].get("agreement")),
            cell(row.get("minus", {}).get("face_sim")),
            row.get("against", ""),
        )
    return table
