"""How good is a DreamBooth LoRA? Likeness, prompts and seconds of several recipes on the same fresh people.

The corpus's recipe is chosen by this: a hypernetwork is measured against teachers, so they must be trained until they
no longer gain. A recipe is DreamBooth settings as ``key=value`` words; what it leaves out is the embedded preset's.
Another rank or other targets need ``start=null freeze_a=false``, since the preset's start has its own.
Every recipe's LoRAs draw the same prompts from the same noise, and the base model does too. Writes a JSON file.

    python -m benchmarks.teachers "steps=30" "lr=0.01" "rank=4 start=null freeze_a=false" --out outputs/teachers.json
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml
from rich.console import Console
from rich.table import Table

from difflora.corpus.allocator import keep_freed_memory
from difflora.corpus.base import FrozenBase
from difflora.corpus.dreambooth import train_people
from difflora.corpus.settings import DreamBoothSettings, read_settings
from difflora.errors import BadParameter
from difflora.evaluation.likeness import Likeness
from difflora.evaluation.measure import Measured, Scorer
from difflora.evaluation.subjects import Subject
from difflora.files import write_json
from difflora.inference.painter import Painter, PictureSettings
from difflora.lora import LoraLayout
from difflora.seeds import noise_seed
from difflora.stages.params import load_params
from difflora.world.agreement import ClassifierAgreement
from difflora.world.faces.pack import open_encoder
from difflora.world.subjects import make_subjects

ASSETS = Path("assets/embedded")


def read_recipe(words: str, preset: DreamBoothSettings) -> DreamBoothSettings:
    """The preset with some values changed; targets are written with commas."""
    values: dict[str, Any] = preset.model_dump()
    for word in words.split():
        key, _, value = word.partition("=")
        if not value:
            raise BadParameter(f"recipe {words!r}: {word!r} is no key=value")
        values[key] = value.split(",") if key == "targets" else yaml.safe_load(value)
    return read_settings(None, values)


def means(measured: Measured) -> dict[str, float]:
    """Each score's mean over the people."""
    return {key: round(float(values.mean()), 4) for key, values in measured.scores.items()}


def main(
    recipes: Annotated[list[str], typer.Argument(help="Words key=value of DreamBooth settings; '' is the preset.")],
    people: Annotated[int, typer.Option(help="Fresh people, all trained at once.")] = 8,
    images: Annotated[int, typer.Option(help="Renders that a LoRA learns from.")] = 18,
    prompts: Annotated[int, typer.Option(help="New prompts a person.")] = 6,
    steps: Annotated[int, typer.Option(help="Denoising steps of a picture.")] = 12,
    guidance: Annotated[float, typer.Option(help="Guidance of a picture.")] = 1.0,
    sampler: Annotated[str, typer.Option(help="own or dpm++")] = "own",
    scale: Annotated[float, typer.Option(help="How strongly LoRAs are applied.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of people, prompts and noise.")] = 4321,
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("outputs/teachers.json"),
) -> None:
    """Trains, draws, scores and writes."""
    keep_freed_memory()
    preset = load_params(Path("presets/embedded.yaml")).corpus.dreambooth
    chosen = [(words, read_recipe(words, preset)) for words in recipes]
    base = FrozenBase.open(ASSETS / "base", "difflora-embedded", hash_files=False)
    encoder = open_encoder(ASSETS)
    likeness = Likeness(encoder, ASSETS / "evaluation" / "recogniser" / "recogniser.onnx")
    agreement = ClassifierAgreement(ASSETS)
    drawn_of = make_subjects(base, encoder, people, images, prompts, seed)
    subjects = [
        Subject(
            one.encoded.identity,
            "",
            [],
            one.references,
            likeness.look(one.references),
            one.prompts,
            [noise_seed(seed, str(row), word) for word in one.prompts],
        )
        for row, one in enumerate(drawn_of)
    ]
    pictures = PictureSettings.model_validate(
        {"steps": steps, "guidance_scale": guidance, "sampler": sampler, "batch_size": 4 * prompts}
    )
    rows: dict[str, dict[str, float]] = {}
    with Painter(base, None, pictures) as painter:
        measured = Scorer(painter, likeness, agreement, 1.0).measure(subjects, None)
        rows["base"] = {**means(measured), "picture_ms": 1000 * measured.seconds["images"]}
    for words, settings in chosen:
        layout = LoraLayout.from_unet(base.unet, settings.targets, settings.rank)
        started = time.perf_counter()
        trained = train_people(base, layout, [one.encoded for one in drawn_of], settings)
        seconds = (time.perf_counter() - started) / people
        with Painter(base, layout, pictures) as painter:
            measured = Scorer(painter, likeness, agreement, scale * settings.scale).measure(subjects, trained.flat)
        rows[words or "preset"] = {
            **means(measured),
            "loss": round(float(trained.final_loss.mean()), 4),
            "seconds": round(seconds, 2),
            "numbers": layout.size,
        }
    settings_of = {"people": people, "images": images, "prompts": prompts, "scale": scale, "seed": seed}
    write_json(out, {"settings": settings_of | {"pictures": pictures.model_dump()}, "recipes": rows})
    table = Table(title=f"{people} fresh people, {prompts} prompts each, {torch.get_num_threads()} threads")
    columns = ["face_sim", "face_sim_independent", "agreement", "faces_found", "loss", "seconds", "numbers"]
    for title in ("recipe", *columns):
        table.add_column(title, justify="left" if title == "recipe" else "right")
    for name, row in rows.items():
        table.add_row(name, *(str(row.get(column, "")) for column in columns))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
