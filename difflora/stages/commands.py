"""``difflora stage``: one step of the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflora.errors import BadFile, BadParameter


def stage(
    name: Annotated[str, typer.Argument(help="identities, corpus, lae, dit, evaluate or register.")],
    params: Annotated[Path, typer.Option(metavar="FILE", help="Parameters; outputs lie beside them.")] = Path(
        "params.yaml"
    ),
    batches: Annotated[
        str | None,
        typer.Option(metavar="N,N...", help="Of the corpus alone: train these batches into data/parts and no more."),
    ] = None,
) -> None:
    """Run one step of the chain, going on from where an earlier call stopped.

    `dvc repro` runs those steps whose inputs changed, in order.

    Example: difflora stage corpus
    """
    from difflora.stages.run import run_stage

    if batches is None:
        run_stage(name, params)
        return
    if name != "corpus" or not all(word.strip().isdigit() for word in batches.split(",")):
        raise BadParameter(f"--batches {batches}: is of the step corpus alone, and takes numbers with commas between")
    from difflora.stages.corpus import train_some
    from difflora.stages.params import load_params
    from difflora.stages.workspace import Workspace

    trained = train_some(Workspace(params.parent, load_params(params)), [int(word) for word in batches.split(",")])
    typer.echo(f"trained {trained} batches; `difflora stage corpus` joins them")


def doctor(
    params: Annotated[Path, typer.Option("--params", metavar="FILE", help="The workspace's parameters.")] = Path(
        "params.yaml"
    ),
) -> None:
    """Say what is installed, reached and missing, and which licences to mind; exit code 1 if the chain cannot run.

    Example: difflora doctor
    """
    from rich.console import Console
    from rich.markup import escape

    from difflora.stages.doctor import examine

    console, found = Console(soft_wrap=True), examine(params.parent)
    signs = {"ok": "[green]ok     [/]", "note": "[yellow]note   [/]", "missing": "[red]missing[/]"}
    for one in found:
        console.print(f"{one.topic:9s} {signs[one.verdict]} {escape(one.text)}", highlight=False)
    if any(one.verdict == "missing" for one in found):
        raise typer.Exit(1)


def figures(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the step evaluate wrote.")] = Path(
        "reports/evaluation.json"
    ),
) -> None:
    """Show the evaluation's figures as a table: every method on people whom no model has seen.

    Example: difflora figures show reports/evaluation.json
    """
    from rich.console import Console

    from difflora.evaluation.page import EVALUATE
    from difflora.evaluation.table import further_tables, ladder_table, summary_lines
    from difflora.folders import read_json

    found = read_json(file, EVALUATE)
    try:
        tables, lines = [ladder_table(found), *further_tables(found)], summary_lines(found)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadFile(
            f"{file}: holds no figures of an evaluation ({error!r}); run `difflora stage evaluate`"
        ) from error
    console = Console()
    for table in tables:
        console.print(table)
    for line in lines:
        console.print(line, highlight=False)


def report(
    reports: Annotated[Path, typer.Argument(metavar="FOLDER", help="That evaluation.json lies in.")] = Path("reports"),
    people: Annotated[int, typer.Option(min=0, help="In the grid of successes, and in that of failures.")] = 4,
) -> None:
    """Write the evaluation's page with all that lies in the folder now: report.html and report.md.

    The step evaluate writes evaluation.html of its own figures alone; drawings (figures/), ablations (ablations.json)
    and a user study (study.json) that were made since are on this page too. Where runs are tracked it gets a run.

    Example: difflora report reports
    """
    from difflora.evaluation.page import write_page
    from difflora.stages.tracking import track

    html, text = write_page(reports, people, "report")
    if (reports.parent / "params.yaml").is_file():
        with track(reports.parent, "report", {}) as tracker:
            tracker.artifact(html, text)
    typer.echo(f"{html}, {text}")
