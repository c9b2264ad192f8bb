"""How fast is a corpus? LoRAs a minute at several numbers of people at once, against peft and diffusers one by one.

The plain loop is what diffusers' script does for one person: peft's layers, one AdamW over their tensors, own random
numbers; latents and prompts are computed once for it too. All have equal steps, batches, rates and pictures. Likeness
is the face pack's cosine between pictures drawn with a LoRA and renders that it did not learn from. The plain loop is
timed before and after the rest and counts with its better time. Processor seconds stand beside the clock's: on a
machine that does other work they alone compare. Writes a JSON file.

    python -m benchmarks.corpus --steps 30 --out outputs/corpus.json
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
import typer
from peft import LoraConfig
from torch import Tensor

from difflora.corpus.allocator import keep_freed_memory
from difflora.corpus.base import DTYPES, FrozenBase
from difflora.corpus.dreambooth import train_people
from difflora.corpus.latents import Encoded
from difflora.corpus.settings import DreamBoothSettings
from difflora.encoders.faces import InsightFaceEncoder
from difflora.files import write_json
from difflora.lora import LoraLayout
from difflora.world.generate import load_base
from difflora.world.subjects import Subject, likeness, make_subjects

ASSETS = Path("assets/embedded")
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Timing:
    """What something took.

    Attributes:
        seconds: by the clock.
        cpu_seconds: of all threads.
    """

    seconds: float
    cpu_seconds: float


class Stopwatch:
    """Runs from its making."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def read(self, parts: int = 1) -> Timing:
        """The time since, divided by a number of parts."""
        clock, cpu = self._started
        return Timing((time.perf_counter() - clock) / parts, (time.process_time() - cpu) / parts)


def in_precision(person: Encoded, dtype: torch.dtype) -> Encoded:
    """The same person with prompt embeddings in another type."""
    pooled = None if person.pooled_embeds is None else person.pooled_embeds.to(dtype)
    return replace(person, prompt_embeds=person.prompt_embeds.to(dtype), pooled_embeds=pooled)


def plain_lora(
    pipeline: Any, layout: LoraLayout, person: Encoded, settings: DreamBoothSettings
) -> tuple[Tensor, Timing]:
    """One person's LoRA by peft and diffusers: the flat vector (D,) and what its training loop took."""
    unet, scheduler = pipeline.unet, pipeline.scheduler
    torch.manual_seed(settings.seed)
    unet.requires_grad_(False)
    names = list(layout.slices)
    alpha = settings.alpha or settings.rank
    unet.add_adapter(LoraConfig(r=settings.rank, lora_alpha=alpha, target_modules=names), adapter_name="person")
    weights = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: settings.lr_at(step) / settings.lr)
    batch = settings.batch_size
    time_ids = torch.tensor([[*person.size, 0, 0, *person.size]], dtype=torch.float32).expand(batch, 6)
    watch = Stopwatch()
    for _ in range(settings.steps):
        rows = torch.randint(0, len(person), (batch,))
        latents, noise = person.latents[rows], torch.randn(batch, *person.latents.shape[1:])
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (batch,))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        conditions = None
        if person.pooled_embeds is not None:
            conditions = {"text_embeds": person.pooled_embeds[rows], "time_ids": time_ids}
        output = unet(noisy, timesteps, person.prompt_embeds[rows], added_cond_kwargs=conditions).sample
        velocity = scheduler.config.prediction_type == "v_prediction"
        F.mse_loss(output, scheduler.get_velocity(latents, noise, timesteps) if velocity else noise).backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    timing = watch.read()
    found = dict(unet.named_parameters())
    flat = layout.flatten(
        {
            name: (
                found[f"{name}.lora_A.person.weight"].detach().clone(),
                found[f"{name}.lora_B.person.weight"].detach().clone(),
            )
            for name in names
        }
    )
    unet.unload_lora()
    return flat, timing


def machine() -> dict[str, Any]:
    """Where this ran."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def time_many(
    base: FrozenBase,
    layout: LoraLayout,
    subjects: list[Subject],
    counts: list[int],
    compared: int,
    settings: DreamBoothSettings,
    precision: Precision,
) -> tuple[list[dict[str, Any]], Tensor]:
    """Trains at each number of people; gives a row each, and the LoRAs (compared, D) of the first people."""
    dtype = DTYPES[precision]
    base.unet.to(dtype=dtype)
    settings = settings.model_copy(update={"precision": precision})
    people = [in_precision(subject.encoded, dtype) for subject in subjects]
    train_people(base, layout, people[: max(counts)], settings.model_copy(update={"steps": 2, "warmup_steps": 0}))
    rows, flat = [], None
    for count in counts:
        watch = Stopwatch()
        trained = train_people(base, layout, people[:count], settings)
        timing = watch.read(count)
        rows.append({"people": count, "precision": precision, **asdict(timing)})
        typer.echo(f"{count} at once, {precision}: {timing.seconds:.2f} s a LoRA, {timing.cpu_seconds:.2f} of CPU")
        if count >= compared:
            flat = trained.flat[:compared]
    return rows, train_people(base, layout, people[:compared], settings).flat if flat is None else flat


def run(
    assets: Path,
    faces: Path,
    counts: list[int],
    precisions: list[Precision],
    settings: DreamBoothSettings,
    *,
    images: int,
    compared: int,
    prompts: int,
    seed: int,
) -> dict[str, Any]:
    """Measures everything; what comes back is plain values."""
    encoder = InsightFaceEncoder(faces, "world", det_size=(128, 128))
    plain = load_base(assets)
    base = FrozenBase.open(assets / "base")
    layout = LoraLayout.from_unet(base.unet, settings.targets, settings.rank)
    watch = Stopwatch()
    subjects = make_subjects(base, encoder, max([*counts, compared]), images, prompts, seed)
    prepared = watch.read(len(subjects))
    chosen = [subject.encoded for subject in subjects[:compared]]
    short = settings.model_copy(update={"steps": 2, "warmup_steps": 0})

    plain_lora(plain, layout, chosen[0], short)
    trained = [plain_lora(plain, layout, person, settings) for person in chosen]
    flats = {"plain": torch.stack([flat for flat, _ in trained])}
    timings = [timing for _, timing in trained]
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for precision in sorted(precisions, reverse=True):  # fp32 first: the way back from bf16 would lose digits
        made, flats[precision] = time_many(base, layout, subjects, counts, compared, settings, precision)
        rows += made
    timings += [plain_lora(plain, layout, person, settings)[1] for person in chosen]
    best = Timing(min(t.seconds for t in timings), min(t.cpu_seconds for t in timings))
    typer.echo(f"plain: {best.seconds:.2f} s a LoRA, {best.cpu_seconds:.2f} of CPU")
    for row in rows:
        row["per_minute"] = 60 / row["seconds"]
        row["times_plain"] = best.seconds / row["seconds"]
        row["times_plain_cpu"] = best.cpu_seconds / row["cpu_seconds"]

    figures = {"base": likeness(plain, layout, settings.scale, None, subjects[:compared], encoder, seed)}
    for name, flat in flats.items():
        figures[name] = likeness(plain, layout, settings.scale, flat, subjects[:compared], encoder, seed)
    return {
        "machine": machine(),
        "settings": settings.model_dump(mode="json"),
        "parameters": layout.size,
        "images": images,
        "prepare_a_person": asdict(prepared),
        "plain": asdict(best) | {"per_minute": 60 / best.seconds},
        "many": rows,
        "likeness": {name: {"mean": sum(values) / len(values), "people": values} for name, values in figures.items()},
    }


def main(
    people: Annotated[
        list[int] | None, typer.Option(help="People at once; several times. 1, 4, 16, 32 if none.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32 or bf16; several times. Both if none.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="LoRA targets; several times.")] = None,
    rank: Annotated[int, typer.Option(help="Of the LoRAs.")] = 2,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Pictures a step of each person.")] = 4,
    lr: Annotated[float, typer.Option(help="AdamW's peak rate.")] = 1.5e-2,
    images: Annotated[int, typer.Option(help="Renders that a LoRA learns from.")] = 20,
    compared: Annotated[int, typer.Option(help="People whose likeness is compared; the plain loop trains these.")] = 4,
    prompts: Annotated[int, typer.Option(help="Pictures drawn of each of them.")] = 6,
    seed: Annotated[int, typer.Option(help="Of people, trainings and pictures.")] = 1234,
    assets: Annotated[Path, typer.Option(help="Folder of the world's models.")] = ASSETS,
    faces: Annotated[Path | None, typer.Option(help="Folder of the face pack; else the one in the assets.")] = None,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("outputs/corpus.json"),
) -> None:
    """Measures, prints and writes."""
    settings = DreamBoothSettings(
        targets=tuple(target or ("attention", "feed_forward", "projections")),
        rank=rank,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        warmup_steps=min(3, steps - 1),
        schedule="cosine",
        final_lr=0.1,
        weight_decay=0.0,
        seed=seed,
    )
    known: dict[str, Precision] = {"fp32": "fp32", "bf16": "bf16"}
    for word in precision or []:
        if word not in known:
            raise typer.BadParameter(f"precision is {word!r}: give fp32 or bf16")
    found = run(
        assets,
        faces or assets / "insightface",
        people or [1, 4, 16, 32],
        [known[word] for word in precision or known],
        settings,
        images=images,
        compared=compared,
        prompts=prompts,
        seed=seed,
    )
    write_json(out, found)
    best = max(found["many"], key=lambda row: row["per_minute"])
    means = {name: round(figure["mean"], 3) for name, figure in found["likeness"].items()}
    typer.echo(f"best: {best['people']} at once, {best['precision']}, {best['times_plain']:.1f} times plain")
    typer.echo(f"likeness: {json.dumps(means)}")


if __name__ == "__main__":
    typer.run(main)
