"""``difflora weights``: model weights that the user brings.

It lies outside the packages of models, whose import brings torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

weights = typer.Typer(help="Model weights that you bring.")


@weights.callback()
def about() -> None:
    """Keeps `convert` a command of its own while it is the only one."""


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
