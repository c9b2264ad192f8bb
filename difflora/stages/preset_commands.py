"""``difflora preset``: whole parameter files to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflora.errors import BadParameter

preset = typer.Typer(
    help="Presets: whole parameter files, for the embedded world, SDXL, Stable Diffusion 1.5, the paper."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="One of `difflora preset list`.")]
Preset = Annotated[str | None, typer.Option("--preset", metavar="NAME", help="One of `difflora preset list`.")]
ParamsFile = Annotated[
    Path | None, typer.Option("--params", metavar="FILE", help="Parameters; params.yaml when left out.")
]


def parameter_file(preset: str | None, params: Path | None) -> Path:
    """The file that --preset or --params mean.

    Raises:
        BadParameter: if both are given, or there is no such preset.
    """
    from difflora.stages.presets import preset_path

    if preset is not None and params is not None:
        raise BadParameter("--preset and --params: give one of them")
    return preset_path(preset) if preset is not None else params or Path("params.yaml")


@preset.command(name="list")
def list_presets() -> None:
    """List the presets, a line each.

    Example: difflora preset list
    """
    from difflora.stages.presets import head, preset_names, preset_path

    for name in preset_names():
        lines = head(preset_path(name))
        typer.echo(f"{name:12s} {lines[0] if lines else ''}")


@preset.command()
def show(name: Name) -> None:
    """Print a preset as it stands, its head comment first: command, hardware, time, disk.

    Example: difflora preset show sdxl
    """
    from difflora.stages.presets import preset_path

    typer.echo(preset_path(name).read_text(), nl=False)


@preset.command()
def use(
    name: Name,
    params: Annotated[Path, typer.Option("--params", metavar="FILE", help="Where to write it.")] = Path("params.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file of other parameters.")] = False,
) -> None:
    """Make a preset the workspace's parameters.

    A file of other parameters is left alone without --force. What was made with others stays until a step runs.

    Example: difflora preset use sdxl
    """
    from difflora.stages.presets import use_preset

    use_preset(name, params, force=force)
    typer.echo(f"{params}: preset {name}; `difflora plan` says what it costs, `difflora weights check` what it needs")
