"""Does the base model serve its purpose? Plain LoRAs (peft, diffusers) of fresh people, against the base without them.

Each person gets a rank-4 LoRA on attention, feed-forward and projections, trained on renders with captions that leave
identity open. Base and LoRA then draw the same new prompts from the same noise, and the recogniser compares them with
renders of the person that the training did not see. Writes a JSON file and a picture sheet.

    python benchmarks/base_lora.py --people 16 --out outputs/base_lora
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from torch import Tensor

from difflora.errors import DiffLoRAError
from difflora.files import write_atomic, write_json
from difflora.grid import grid
from difflora.world.base import face_weights, velocity_loss
from difflora.world.captions import caption
from difflora.world.classifiers import ATTRIBUTES, load_classifiers
from difflora.world.faces.pack import embed_images
from difflora.world.generate import generate, load_base
from difflora.world.pool import Pool, draw_pool
from difflora.world.scenes import sample_scenes
from difflora.world.text import encode_tokens
from difflora.world.tokenizer import token_ids
from difflora.world.traits import sample_people

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
ASSETS = Path("assets/embedded")


@dataclass(frozen=True)
class Task:
    """What is asked of one person's LoRA: renders to learn, others to compare with, prompts to draw."""

    learn: Pool
    learn_captions: list[str]
    references: Pool
    scenes: Pool
    prompts: list[str]


def make_tasks(people: int, images: int, prompts: int, seed: int) -> list[Task]:
    """Draws fresh people with their pictures and prompts; no caption names a trait."""
    generator = torch.Generator().manual_seed(seed)
    persons = sample_people(people, generator)

    def pool(row: int, count: int) -> tuple[Pool, list[str]]:
        scenes, same = sample_scenes(count, generator), persons[[row] * count]
        drawn = draw_pool(same, scenes, torch.full((count,), row))
        return drawn, caption(same, scenes, generator, trait_dropout=1.0)

    tasks = []
    for row in range(people):
        learn, learn_captions = pool(row, images)
        references, _ = pool(row, 4)
        scenes, texts = pool(row, prompts)
        tasks.append(Task(learn, learn_captions, references, scenes, texts))
    return tasks


def train_lora(
    pipeline: StableDiffusionXLPipeline,
    task: Task,
    *,
    rank: int,
    steps: int,
    batch_size: int,
    lr: float,
    face_weight: float,
    feature_weight: float,
    mode_scale: float,
    caption_dropout: float,
    seed: int,
) -> None:
    """Adds an adapter named ``person`` to the UNet and trains it on the task's renders."""
    unet, vae = pipeline.unet, pipeline.vae
    with torch.no_grad():
        pixels = task.learn.batch(torch.arange(len(task.learn))) * 2 - 1
        latents = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
        weight = face_weights(task.learn.boxes, task.learn.landmarks, face_weight, feature_weight)  # (N, 1, h, w)
        ids = token_ids(pipeline.tokenizer, task.learn_captions)
        prompt, pooled = encode_tokens(pipeline.text_encoder, pipeline.text_encoder_2, ids)
        empty = encode_tokens(pipeline.text_encoder, pipeline.text_encoder_2, token_ids(pipeline.tokenizer, [""]))
    unet.requires_grad_(False)
    torch.manual_seed(seed)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), adapter_name="person")
    weights = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=lr * 0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(0, len(latents), (batch_size,), generator=generator)
        dropped = torch.rand(batch_size, generator=generator) < caption_dropout
        embeddings = (
            torch.where(dropped[:, None, None], empty[0], prompt[rows]),
            torch.where(dropped[:, None], empty[1], pooled[rows]),
        )
        loss = velocity_loss(
            unet, pipeline.scheduler, latents[rows], embeddings, generator, weight[rows], mode_scale=mode_scale
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def similarity(assets: Path, images: Tensor, references: Tensor) -> Tensor:
    """Mean cosine of each picture with the references by the face pack; 0 where it finds no face. (N,)."""
    found = embed_images(assets, references)
    found = found[found.norm(dim=1) > 0]
    return (embed_images(assets, images) @ found.T).mean(1)


def agreement(assets: Path, images: Tensor, scenes: Pool) -> float:
    """Mean over the attributes of the fraction that follows its prompt."""
    seen = load_classifiers(assets / "evaluation" / "classifiers").predict(images)
    return float(torch.stack([(seen[n] == scenes.scenes.index(n)).float().mean() for n in ATTRIBUTES]).mean())


def main(
    people: Annotated[int, typer.Option(help="Fresh people.")] = 16,
    images: Annotated[int, typer.Option(help="Renders that a LoRA learns from.")] = 40,
    prompts: Annotated[int, typer.Option(help="New prompts a person.")] = 8,
    steps: Annotated[int, typer.Option(help="Training steps of a LoRA.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Renders a step.")] = 24,
    lr: Annotated[float, typer.Option(help="AdamW's peak learning rate.")] = 0.012,
    face_weight: Annotated[float, typer.Option(help="How much more an error in the face's box counts.")] = 12.0,
    feature_weight: Annotated[float, typer.Option(help="The same at eyes, nose and mouth.")] = 6.0,
    mode_scale: Annotated[float, typer.Option(help="How much oftener middle timesteps are drawn.")] = 0.8,
    caption_dropout: Annotated[float, typer.Option(help="Share of captions left empty.")] = 0.1,
    rank: Annotated[int, typer.Option(help="Of the LoRA.")] = 4,
    guidance: Annotated[float, typer.Option(help="Of the pictures; 1 for none.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of people, prompts and noise.")] = 1234,
    assets: Annotated[Path, typer.Option(help="Folder of the world's models.")] = ASSETS,
    out: Annotated[Path, typer.Option(help="Writes OUT.json and OUT.png.")] = Path("outputs/base_lora"),
) -> None:
    """Trains the LoRAs, measures and writes."""
    pipeline = load_base(assets)
    rows, labels, figures = [], [], []
    for number, task in enumerate(make_tasks(people, images, prompts, seed)):
        base = generate(pipeline, task.prompts, seed, guidance_scale=guidance)
        started = time.monotonic()
        train_lora(
            pipeline,
            task,
            rank=rank,
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            face_weight=face_weight,
            feature_weight=feature_weight,
            mode_scale=mode_scale,
            caption_dropout=caption_dropout,
            seed=seed,
        )
        seconds = time.monotonic() - started
        own = generate(pipeline, task.prompts, seed, guidance_scale=guidance)
        pipeline.unet.delete_adapters("person")
        if F.l1_loss(own, base) < 1e-3:
            raise DiffLoRAError(f"person {number}: the LoRA changes nothing; are its targets {TARGETS} in this UNet?")
        references = task.references.batch(torch.arange(4))
        figure = {
            "base": float(similarity(assets, base, references).mean()),
            "lora": float(similarity(assets, own, references).mean()),
            "renders": float(similarity(assets, task.learn.batch(torch.arange(8)), references).mean()),
            "base_prompts": agreement(assets, base, task.scenes),
            "lora_prompts": agreement(assets, own, task.scenes),
            "seconds": seconds,
        }
        figures.append(figure)
        typer.echo(f"person {number}: " + ", ".join(f"{k} {v:.3f}" for k, v in figure.items()))
        if number < 8:
            rows += [torch.cat([references[:2], base[:6]]), torch.cat([references[2:], own[:6]])]
            labels += [f"person {number}: two renders, then the base", f"person {number}: two renders, then the LoRA"]
    mean = {k: sum(f[k] for f in figures) / people for k in figures[0]}
    settings = {"people": people, "images": images, "prompts": prompts, "steps": steps, "lr": lr, "rank": rank}
    settings |= {"batch_size": batch_size, "face_weight": face_weight, "feature_weight": feature_weight}
    settings |= {"mode_scale": mode_scale, "caption_dropout": caption_dropout, "guidance": guidance, "seed": seed}
    write_json(out.with_suffix(".json"), {"settings": settings, "mean": mean, "people": figures})
    write_atomic(out.with_suffix(".png"), grid(rows, labels))
    typer.echo(json.dumps({k: round(v, 3) for k, v in mean.items()} | {"gain": round(mean["lora"] - mean["base"], 3)}))


if __name__ == "__main__":
    typer.run(main)
