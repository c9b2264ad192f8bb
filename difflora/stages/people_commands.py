"""``difflora people``: who is in, what is known of them, and forgetting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflora.errors import BadParameter

if TYPE_CHECKING:
    from rich.table import Table

    from difflora.corpus.lines import Record
    from difflora.stages.workspace import Workspace

people = typer.Typer(help="The people of a workspace: list them, show one, forget one for good.")

ParamsFile = Annotated[Path, typer.Option("--params", metavar="FILE", help="The workspace's parameters.")]
_PARAMS = Path("params.yaml")
_SPLITS = ("train", "validation", "test")


@people.command("list")
def list_people(
    split: Annotated[str | None, typer.Option(help="Of one split alone: train, validation or test.")] = None,
    skipped: Annotated[bool, typer.Option("--skipped", help="Those who were passed over, and why.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON, with all that is known.")] = False,
    params: ParamsFile = _PARAMS,
) -> None:
    """Show everyone: split, class word, pictures to learn from and to show, whether there is a LoRA, and consent.

    Example: difflora people list --split test
    """
    import json as text

    from rich.console import Console

    if split is not None and split not in _SPLITS:
        raise BadParameter(f"--split {split}: give {', '.join(_SPLITS)}")
    if split is not None and skipped:
        raise BadParameter("--skipped: whoever was passed over has no split; leave --split out")
    workspace = _workspace(params)
    folder = workspace.open_people()
    lines = (
        list(folder.skipped.values())
        if skipped
        else [folder.line(one) for one in folder.ids if split in (None, folder.line(one)["split"])]
    )
    if json:
        typer.echo(text.dumps(lines, indent=2))
        return
    if lines:
        Console(soft_wrap=True).print(_skipped_table(lines) if skipped else _table(lines, set(_rows(workspace))))
    typer.echo(f"{len(lines)} people")


@people.command()
def show(
    identity: Annotated[str, typer.Argument(metavar="ID", help="As `difflora people list` has it.")],
    params: ParamsFile = _PARAMS,
) -> None:
    """Show all that is known of a person as JSON: split, consent, what was left out, and the LoRA's row.

    Example: difflora people show rendered-0-000007
    """
    import json as text

    workspace = _workspace(params)
    folder = workspace.open_people()
    line = folder.skipped.get(identity) or folder.line(identity)
    typer.echo(text.dumps({**line, "lora": _rows(workspace).get(identity)}, indent=2))


@people.command()
def forget(
    identity: Annotated[str, typer.Argument(metavar="ID", help="As `difflora people list` has it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    params: ParamsFile = _PARAMS,
) -> None:
    """Take a person out of pictures, embeddings, corpus and index, for good, and say what else holds them.

    Nobody else's split, row or file changes. The person never comes back, whatever source or folder names them. Stop it
    at any moment: calling it again, or the next step, finishes it.

    Example: difflora people forget rendered-0-000007
    """
    from difflora.stages.forget import forget as forget_person
    from difflora.stages.forget import ids_of
    from difflora.stages.leftovers import leftovers

    workspace = _workspace(params)
    names = ids_of(workspace, identity)
    if not yes:
        typer.confirm(f"Forget {', '.join(names)}? Pictures, embeddings and LoRA cannot be brought back", abort=True)
    forget_person(workspace, identity)
    typer.echo(f"forgotten: {', '.join(names)}")
    typer.echo(f"Commit {workspace.incoming / 'forgotten.json'}: it keeps them out.")
    left = leftovers(workspace, names)
    if left:
        typer.echo("What else may hold them, and what to do there:")
    for one in left:
        typer.echo(f"- {one.what}")
        for command in one.commands:
            typer.echo(f"    {command}")


def _table(lines: list[Record], with_lora: set[str]) -> Table:
    from rich.table import Column, Table

    consents = Column("consent", overflow="fold", min_width=12)
    table = Table(Column("person", no_wrap=True), "split", "word", "pictures", "LoRA", consents)
    for line in lines:
        consent = line.get("consent", {})
        told = f"{consent['licence']}, {consent['date']}" if consent else "none"
        pictures, has = f"{line['images']} + {line['references']}", line["identity"] in with_lora
        table.add_row(line["identity"], line["split"], line["class_word"], pictures, "yes" if has else "no", told)
    return table


def _skipped_table(lines: list[Record]) -> Table:
    from rich.table import Column, Table

    table = Table(Column("person", no_wrap=True), "why there is nobody of that id")
    for line in lines:
        table.add_row(line["identity"], line["skipped"])
    return table


def _workspace(params: Path) -> Workspace:
    from difflora.stages.params import load_params
    from difflora.stages.workspace import Workspace

    return Workspace(params.parent, load_params(params))


def _rows(workspace: Workspace) -> dict[str, Record]:
    """Identity -> what the corpus's index says; nothing where there is no corpus yet."""
    from difflora.corpus.forgotten import is_tombstone
    from difflora.corpus.lines import read_lines
    from difflora.corpus.reader import INDEX

    lines = [line for line in read_lines(workspace.corpus / INDEX) if not is_tombstone(line)]
    return {str(line["identity"]): line for line in lines}
