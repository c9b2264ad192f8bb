"""``difflora personalize``, ``generate`` and ``compare``: from a photograph to a LoRA file to pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflora.errors import BadParameter

if TYPE_CHECKING:
    from difflora.inference.painter import Painter
    from difflora.lora import LoraWeights

MODEL = Path("models/difflora")
BASE = Path("assets/embedded/base")

Model = Annotated[Path, typer.Option(metavar="DIR", help="The hypernetwork's folder.")]
Base = Annotated[Path, typer.Option(metavar="DIR", help="The base model's folder, of diffusers.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Steps = Annotated[int, typer.Option(help="Denoising steps.")]
Guidance = Annotated[float, typer.Option(help="Of the pictures; 1 for none.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1...")]


def personalize(
    photo: Annotated[list[Path], typer.Argument(help="A photograph of the person; several are averaged.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The LoRA file to write.")],
    model: Model = MODEL,
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(help="Of the sampler; the model's own by default.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="The model's own by default; 1 for none.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="How far from the mean LoRA; the model's own by default.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Recommended to whoever merges the LoRA.")] = None,
    only_face: Annotated[bool, typer.Option("--only-face", help="Refuse a photograph with several faces.")] = False,
    device: Device = "cpu",
) -> None:
    """Make a LoRA of the person in a photograph: one .safetensors that diffusers loads as its own.

    Example: difflora personalize me.jpg -o me.safetensors
    """
    import torch

    from difflora.encoders.pictures import read_picture
    from difflora.models import DiffLoRAPipeline

    _check_suffix(out, ".safetensors")
    for one in photo:
        read_picture(one)  # before the models are loaded: a wrong path fails at once
    pipeline = DiffLoRAPipeline.from_pretrained(model, device=device)
    made = pipeline(
        photo,  # as paths, so that errors name the file
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(_checked(seed)),
        strength=strength,
        scale=scale,
        several_faces="error" if only_face else "largest",
    )
    made.lora.save(out)
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in made.seconds.items())
    base = made.lora.base.name if made.lora.base else "an unnamed base model"
    typer.echo(f"{out}: rank {made.lora.layout.rank}, {made.lora.layout.size:,} numbers, for {base} ({parts})")


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    lora: Annotated[Path, typer.Option(metavar="FILE", help="The person's LoRA.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The PNG to write.")],
    n: Annotated[int, typer.Option("--n", help="Pictures, side by side.")] = 4,
    scale: Annotated[float | None, typer.Option(help="How strongly; what the file recommends by default.")] = None,
    base: Base = BASE,
    steps: Steps = 25,
    guidance_scale: Guidance = 3.0,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Draw a prompt under a LoRA.

    Example: difflora generate "a photo of a woman smiling, on a beach" --lora me.safetensors -o me.png
    """
    from difflora.files import write_atomic
    from difflora.grid import grid
    from difflora.lora import LoraWeights

    _check_suffix(out, ".png")
    if not prompt.strip() or not 1 <= n <= 100:
        raise BadParameter(f"prompt is {prompt!r}, n is {n}: say what to draw, and give n from 1 to 100")
    weights = LoraWeights.load(lora)
    with _painter(base, weights, steps, guidance_scale, device) as painter:
        seeds = [_checked(seed) + place for place in range(n)]
        pictures = painter.paint([prompt] * n, seeds, weights, weights.scale if scale is None else scale)
    write_atomic(out, grid([pictures], [prompt]))
    typer.echo(f"{out}: {n} pictures")


def compare(
    photo: Annotated[Path, typer.Argument(help="A photograph of the person.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The PNG to write.")] = Path(
        "outputs/compare.png"
    ),
    prompt: Annotated[
        list[str] | None, typer.Option(help="What to draw, with {person} where the person is; several times.")
    ] = None,
    class_word: Annotated[
        str | None, typer.Option(help="What {person} becomes, without its article; asked for where several fit.")
    ] = None,
    model: Model = MODEL,
    base: Base = BASE,
    steps: Steps = 25,
    guidance_scale: Guidance = 3.0,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Draw a grid: the photograph, then several prompts by the base model and by the personalised one.

    Example: difflora compare me.jpg -o me.png --class-word woman
    """
    import torch

    from difflora.encoders.pictures import read_picture
    from difflora.files import write_atomic
    from difflora.grid import as_tensor, grid
    from difflora.models import DiffLoRAPipeline
    from difflora.prompts import for_person

    _check_suffix(out, ".png")
    picture = read_picture(photo)
    pipeline = DiffLoRAPipeline.from_pretrained(model, device=device)
    class_word = class_word or _class_word(str(pipeline.config.class_words))
    weights = pipeline(photo, generator=torch.Generator().manual_seed(_checked(seed))).lora
    prompts = [for_person(one, class_word) for one in prompt or PROMPTS]
    with _painter(base, weights, steps, guidance_scale, device) as painter:
        seeds = [_checked(seed) + place for place in range(len(prompts))]
        drawn = [painter.paint(prompts, seeds), painter.paint(prompts, seeds, weights, weights.scale)]
    reference = as_tensor(picture, (drawn[0].shape[-2], drawn[0].shape[-1]))  # (1, 3, H, W)
    labels = ["the photograph, then the base model", "the same prompts and noise under the person's LoRA"]
    write_atomic(out, grid([torch.cat([reference, row]) for row in drawn], labels))
    typer.echo(f"{out}: " + "; ".join(prompts))


PROMPTS = (
    "a photo of {person} smiling, wearing a blue shirt, in a city",
    "a portrait of {person} looking angry, wearing a white t-shirt, in a forest",
    "a photo of {person} laughing, with sunglasses, wearing a red hoodie, on a beach",
    "a photo of {person} looking surprised, wearing a hat, wearing a black shirt, in the mountains",
    "a photo of {person} looking sad, wearing a green hoodie, in a room",
    "a portrait of {person} with headphones, wearing a yellow t-shirt, under a night sky",
)


def _painter(folder: Path, lora: LoraWeights, steps: int, guidance_scale: float, device: str) -> Painter:
    from difflora.corpus.base import FrozenBase
    from difflora.inference.painter import Painter, PictureSettings
    from difflora.validation import validated

    settings = validated(PictureSettings, {"steps": steps, "guidance_scale": guidance_scale}, "pictures")
    frozen = FrozenBase.open(folder, lora.base.name if lora.base else None, device=device, hash_files=False)
    if lora.base is not None and (difference := frozen.name.difference(lora.base)):
        raise BadParameter(f"{folder}: {difference}; give the base model that the LoRA was made for")
    return Painter(frozen, lora.layout, settings)


def _class_word(known: str) -> str:
    """What to call the person: the model's own word, or the user's choice among several."""
    words = known.split(", ") if known else ["person"]
    if len(words) == 1:
        return words[0]
    if not sys.stdin.isatty():
        raise BadParameter(f"--class-word: say what to call the person; the model learnt from {known}")
    chosen: str = typer.prompt(f"The person in the photograph is a ({'/'.join(words)})", default=words[0])
    return chosen


def _checked(seed: int) -> int:
    if not 0 <= seed < 2**31:
        raise BadParameter(f"seed is {seed}: give one from 0 to {2**31 - 1}")
    return seed


def _check_suffix(out: Path, suffix: str) -> None:
    if out.suffix.lower() != suffix or out.is_dir():
        raise BadParameter(f"{out}: give the name of a {suffix} file to write")
