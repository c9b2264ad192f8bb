"""``difflora weights``: check what users bring, fetch what may be fetched, convert PhotoMaker's pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflora.errors import BadFile, BadParameter
from difflora.stages.preset_commands import ParamsFile, Preset, parameter_file

weights = typer.Typer(help="Weights that you bring: what a preset needs, their licences and sha256; never a pickle.")


@weights.command()
def check(preset: Preset = None, params: ParamsFile = None) -> None:
    """Check every weights' file that a parameter file names; exit code 1 if one is missing or refused.

    Formats and headers are looked at first, networks are compared with their configurations, then each sha256 with the
    published one or with that of the first check, which weights.lock.json keeps: trust on first use. Needs no network.

    Example: difflora weights check --preset sdxl
    """
    from rich.console import Console

    from difflora.stages.needs import data_licences, needs_of
    from difflora.stages.params import load_params
    from difflora.weights.check import check_need
    from difflora.weights.lock import LOCK, Lock, SeenFile

    chosen, root = load_params(parameter_file(preset, params)), Path()
    console, lock = Console(soft_wrap=True), Lock(root / LOCK)
    refused, kept = False, dict[str, SeenFile]()
    for need in needs_of(chosen):
        try:
            seen = check_need(need, root, lock)
            kept |= seen
            trusts = [file.trust for file in seen.values()]
            size = sum(file.size for file in seen.values()) / 1e9
            said = ", ".join(f"{trusts.count(trust)} {trust}" for trust in dict.fromkeys(trusts))
            console.print(f"[green]ok     [/] {need.key}: {need.path}, {size:.2f} GB; sha256: {said}", highlight=False)
        except BadFile as error:
            refused = True
            sign = "[red]refused[/]" if need.there(root) else "[red]missing[/]"
            console.print(f"{sign} {need.key}: {' '.join(str(error).split())}", highlight=False)
        console.print(f"        licence: {need.licence(root)}", highlight=False)
    for licence in data_licences(chosen):
        console.print(f"note    identities.options: {licence}", highlight=False)
    lock.keep(kept)
    if any(file.trust == "recorded" for file in kept.values()):
        console.print(
            f"recorded: believed as they are, now in {LOCK}; a change is refused from now on", highlight=False
        )
    if refused:
        raise typer.Exit(1)


@weights.command()
def fetch(
    preset: Preset = None,
    params: ParamsFile = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licences that are shown, and accept them.")
    ] = False,
) -> None:
    """Fetch from the hub what a parameter file names there and is missing: pinned commits, safetensors, JSON and text.

    What may not be fetched (face packs, PhotoMaker) is listed with what to do.

    Example: difflora weights fetch --preset sdxl --accept-licence
    """
    from difflora.stages.needs import needs_of
    from difflora.stages.params import load_params
    from difflora.weights.check import check_need
    from difflora.weights.fetch import fetch as take
    from difflora.weights.lock import LOCK, Lock

    root = Path()
    lock, left = Lock(root / LOCK), 0
    needs = needs_of(load_params(parameter_file(preset, params)))
    wanted = []
    for need in needs:
        try:
            lock.keep(check_need(need, root, lock))
            typer.echo(f"{need.key}: {need.path} is there")
        except BadFile as error:
            if need.hub is None:
                left += 1
                typer.echo(f"{need.key}: {' '.join(str(error).split())}")
            else:
                wanted.append(need)
                typer.echo(f"{need.key}: {need.hub}@{need.revision}, licence {need.licence(root)}")
    if wanted and not accept_licence:
        raise BadParameter("licences: read those above, then give --accept-licence; nothing was fetched")
    for need in wanted:
        take(need, root)
        lock.keep(check_need(need, root, lock))
        typer.echo(f"{need.path}: fetched and checked; sha256 of every file in {LOCK}")
    if left:
        raise typer.Exit(1)


@weights.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The public photomaker-v1.bin.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors file to write.")],
) -> None:
    """Convert PhotoMaker's public pickle, once, into safetensors that is read from then on.

    The pickle is opened for tensors alone, in a process of its own with limited memory and time and without network
    settings; every key, shape and number is checked before the new file is kept.

    Example: difflora weights convert photomaker-v1.bin weights/photomaker-v1.safetensors
    """
    from difflora.photomaker.convert import convert_photomaker

    made = convert_photomaker(source, out)
    typer.echo(f"{out}: {len(made.id_encoder)} tensors of the id encoder, {len(made.lora)} of its LoRA")
