"""``difflora plan``: what a parameter file costs, before any work."""

from __future__ import annotations

from typing import Annotated

import typer

from difflora.stages.preset_commands import ParamsFile, Preset, parameter_file


def plan(
    preset: Preset = None,
    params: ParamsFile = None,
    people: Annotated[
        int | None, typer.Option("--people", metavar="N", help="People, in the place of identities.count.")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", metavar="K", help="Devices that share the work.")] = 1,
    assume: Annotated[
        list[str] | None,
        typer.Option("--assume", metavar="NAME=VALUE", help="Another assumption; several times."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a parameter file costs: sizes, memory, hours and disk of every step, and what the figures hang on.

    Parameters, operations and bytes are counted from the models' configurations; no weight is loaded or needed. It
    takes up to a minute for SDXL.

    Example: difflora plan --preset sdxl --people 2000 --gpus 8
    """
    from rich.console import Console

    from difflora.plan.plan import make_plan
    from difflora.plan.table import print_plan
    from difflora.stages.params import load_params

    path = parameter_file(preset, params)
    made = make_plan(load_params(path), preset=preset or str(path), people=people, gpus=gpus, assume=list(assume or []))
    if json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        print_plan(made, Console(soft_wrap=True))
