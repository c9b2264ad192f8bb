"""``difflora study``: build, serve, score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflora.errors import BadParameter

study = typer.Typer(help="A user study: raters mark pictures from 1 to 5 without knowing whose they are.")

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder.")]
VotesFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The sqlite file of votes; left out: votes.sqlite of the folder.")
]


@study.command()
def build(
    out: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder to make.")],
    pictures: Annotated[Path, typer.Option(metavar="FOLDER", help="What the step evaluate kept.")] = Path(
        "reports/pictures"
    ),
    methods: Annotated[
        str | None, typer.Option(metavar="NAME,NAME...", help="Whose pictures; left out: every method's.")
    ] = None,
    people: Annotated[int | None, typer.Option(min=1, help="The first people; left out: all.")] = None,
    prompts: Annotated[int | None, typer.Option(min=1, help="Of each person, the first ones; left out: all.")] = None,
    per_rater: Annotated[
        int | None, typer.Option(min=1, help="Pages that one rater is asked for, drawn anew for each; left out: all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of names and order; the same seed gives the same study.")] = 0,
) -> None:
    """Make blinded pages of the pictures that the evaluation kept.

    Writes STUDY/pages, which is all that `serve` needs, and STUDY/key.json, which says whose picture is which: keep it
    from raters.

    Example: difflora study build outputs/study --methods base,generated,teacher --people 12 --prompts 3
    """
    from difflora.study.build import build_study

    chosen = [name.strip() for name in (methods or "").split(",") if name.strip()]
    made = build_study(pictures, out, methods=chosen, people=people, prompts=prompts, per_rater=per_rater, seed=seed)
    asked = min(per_rater or len(made.items), len(made.items))
    typer.echo(f"{out}: {len(made.items)} pages, {asked} a rater; `difflora study serve {out}` shows them")


@study.command()
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of it; 0 for any that is free.")] = 8008,
    votes: VotesFile = None,
) -> None:
    """Show the pages in a browser and collect votes until Ctrl-C.

    A vote is on the disk before the next page is shown. Raters are anonymous, may stop, come back and change votes.

    Example: difflora study serve outputs/study --port 8008
    """
    try:
        from difflora.study.serve import serve as run
    except ImportError as error:
        raise BadParameter(f"study serve: {error.name} is not installed; pip install 'difflora[study]'") from error
    run(folder, host, port, votes, ready=lambda address: typer.echo(f"{address} (Ctrl-C stops it)"))


@study.command()
def score(
    folder: Folder,
    votes: VotesFile = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON to write; left out: scores.json of the folder."),
    ] = None,
) -> None:
    """Say what raters thought of each method: means, 95% intervals over people and over raters, and their agreement.

    With --out reports/study.json `difflora report` shows it beside the evaluation.

    Example: difflora study score outputs/study --out reports/study.json
    """
    from rich.console import Console
    from rich.table import Table

    from difflora.evaluation.tables import study_tables
    from difflora.files import write_json
    from difflora.study.pages import SCORES
    from difflora.study.score import score_study

    place = out or folder / SCORES
    if place.is_dir():
        raise BadParameter(f"{place} is a folder: give the name of a file for --out")
    found = score_study(folder, votes)
    write_json(place, found)
    console = Console()
    for one in study_tables(found):
        table = Table(title=one.title, caption=" ".join(one.notes) or None)
        for number, name in enumerate(one.columns):
            table.add_column(name, justify="right" if number else "left")
        for row in one.rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"written to {place}", highlight=False)
