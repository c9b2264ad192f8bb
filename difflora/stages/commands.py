"""``difflora stage``: one step of the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflora.errors import BadFile


def stage(
    name: Annotated[str, typer.Argument(help="identities, corpus, lae, dit, evaluate or register.")],
    params: Annotated[Path, typer.Option(metavar="FILE", help="Parameters; outputs lie beside them.")] = Path(
        "params.yaml"
    ),
) -> None:
    """Run one step of the chain, going on from where an earlier call stopped.

    `dvc repro` runs those steps whose inputs changed, in order.

    Example: difflora stage corpus
    """
    from difflora.stages.run import run_stage

    run_stage(name, params)


def figures(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the step evaluate wrote.")] = Path(
        "reports/evaluation.json"
    ),
) -> None:
    """Show the evaluation's figures: every method on people whom no model has seen.

    Example: difflora figures reports/evaluation.json
    """
    from rich.console import Console

    from difflora.evaluation.table import ladder_table, summary_lines
    from difflora.folders import read_json

    found = read_json(file)
    try:
        table, lines = ladder_table(found), summary_lines(found)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadFile(
            f"{file}: holds no figures of an evaluation ({error!r}); run `difflora stage evaluate`"
        ) from error
    console = Console()
    console.print(table)
    for line in lines:
        console.print(line, highlight=False)
