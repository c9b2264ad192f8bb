"""``difflora registry``: candidates, the champion, their hashes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflora.errors import BadParameter

if TYPE_CHECKING:
    from difflora.stages.registry import Registry

registry = typer.Typer(help="Registered hypernetworks: list, promote through the gate, roll back, verify.")

ParamsFile = Annotated[Path, typer.Option("--params", metavar="FILE", help="The workspace's parameters.")]
_PARAMS = Path("params.yaml")


@registry.command("list")
def list_versions(params: ParamsFile = _PARAMS) -> None:
    """Show all versions, newest first, and which is the champion.

    Example: difflora registry list
    """
    from rich.console import Console
    from rich.table import Table

    from difflora.stages.candidate import VERSION
    from difflora.stages.registry import CANDIDATES, MODEL

    opened = _open(params)
    table = Table("model", "version", "name", "aliases", "run")
    for name in (MODEL, CANDIDATES):
        for version in opened.versions(name):
            aliases = ", ".join(version.aliases)
            table.add_row(name, str(version.version), version.tags.get(VERSION, ""), aliases, version.run_id or "")
    if table.row_count:
        Console().print(table)
    else:
        typer.echo("nothing is registered yet; run `difflora stage register`")


@registry.command()
def promote(
    version: Annotated[
        str | None, typer.Argument(help="Of difflora-candidates; the newest candidate when left out.")
    ] = None,
    gate: Annotated[Path, typer.Option(metavar="FILE", help="What is asked.")] = Path("mlflow/gate.yaml"),
    measured: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that `difflora registry measure` wrote to.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Pass the gate by; hashes are compared all the same.")] = False,
    params: ParamsFile = _PARAMS,
) -> None:
    """Make a candidate difflora@champion, if the gate allows it; exit code 3 where it does not.

    Example: difflora registry promote 4
    """
    from difflora.stages.gate import load_gate

    done = _open(params).promote(load_gate(gate), version=version, measured=measured, force=force)
    for line in done.verdict.lines:
        typer.echo(f"  {line}")
    typer.echo(f"{done.candidate}: {'promoted' if done.promoted else 'kept out'}; champion: {done.champion or 'none'}")
    if not done.promoted:
        raise typer.Exit(3)


@registry.command()
def rollback(params: ParamsFile = _PARAMS) -> None:
    """Make the version before the champion the champion again.

    Example: difflora registry rollback
    """
    old, new = _open(params).rollback()
    typer.echo(f"champion: {new}, no longer {old}")


@registry.command()
def verify(
    every: Annotated[bool, typer.Option("--all", help="Candidates too, not the champion alone.")] = False,
    params: ParamsFile = _PARAMS,
) -> None:
    """Fetch versions and compare every byte's hash with what was registered.

    Example: difflora registry verify --all
    """
    from difflora.stages.registry import CANDIDATES, MODEL

    opened = _open(params)
    champion = opened.champion()
    versions = [*opened.versions(MODEL), *opened.versions(CANDIDATES)] if every else [champion] if champion else []
    if not versions:
        raise BadParameter("there is no champion; promote a candidate first, or give --all")
    for version in versions:
        opened.verify(version)
        typer.echo(f"{version.name} version {version.version}: as it was registered")


@registry.command()
def fetch(params: ParamsFile = _PARAMS) -> None:
    """Fetch the champion into models/champions, checked; say where it lies.

    Example: difflora registry fetch
    """
    folder = _open(params).champion_folder()
    if folder is None:
        raise BadParameter("there is no champion; promote a candidate first")
    typer.echo(str(folder))


@registry.command()
def measure(params: ParamsFile = _PARAMS) -> None:
    """Measure the champion on this workspace's held-out people, as the step evaluate measures a candidate.

    Example: difflora registry measure && difflora registry promote --measured reports
    """
    from difflora.stages.champion import measure_champion
    from difflora.stages.params import load_params
    from difflora.stages.workspace import Workspace

    champion = measure_champion(Workspace(params.parent, load_params(params)))
    typer.echo(f"measured {champion}" if champion else "there is no champion; nothing to measure")


def _open(params: Path) -> Registry:
    from difflora.stages.registry import Registry

    if not params.is_file():
        raise BadParameter(f"{params}: no such file; run from the repository's root, or give --params")
    return Registry(params.parent)
