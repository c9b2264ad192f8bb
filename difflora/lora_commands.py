"""``difflora lora``: say what a LoRA file holds, and write it in another format.

It lies outside ``difflora.lora``, whose import brings torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflora.errors import BadParameter

lora = typer.Typer(help="LoRA files: diffusers', peft's and kohya's (ComfyUI) format, read, checked and converted.")

Source = Annotated[Path, typer.Argument(metavar="FILE", help="A .safetensors file, or the folder of a peft adapter.")]


@lora.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .safetensors file, or the folder of a peft adapter.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors file; for peft a folder.")],
    lora_format: Annotated[
        str, typer.Option("--format", help="diffusers, peft, or kohya for ComfyUI and others; exact both ways.")
    ],
) -> None:
    """Check a LoRA and write it in another format, to the last bit.

    Half precision stays so; other types are stored in float32.

    Example: difflora lora convert person.safetensors person-comfyui.safetensors --format kohya
    """
    import torch

    from difflora.lora.formats import FORMATS, check_target
    from difflora.lora.weights import LoraWeights

    chosen = next((known for known in FORMATS if known == lora_format), None)
    if chosen is None:
        raise BadParameter(f"format is {lora_format!r}; give one of {', '.join(FORMATS)}")
    check_target(out, chosen)
    weights = LoraWeights.load(source)
    weights.save(out, torch.float16 if weights.flat.dtype == torch.float16 else torch.float32, chosen)
    typer.echo(f"{out}: {len(weights.layout.modules)} modules of rank {weights.layout.rank} in {chosen}'s format")


@lora.command()
def show(
    source: Source,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON too.")] = None,
) -> None:
    """Check a LoRA and say what it is: base model, trigger, rank, alpha, modules, norms of its changes.

    Example: difflora lora show person.safetensors --json outputs/person.json
    """
    from difflora.files import write_json
    from difflora.lora.summary import summarise

    if json is not None and json.is_dir():
        raise BadParameter(f"{json} is a folder: give the name of a file for --json")
    found = summarise(source)
    for key, value in found.items():
        if value not in (None, {}):
            typer.echo(f"{key:13s}{_words(value)}")
    if json is not None:
        write_json(json, found)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
