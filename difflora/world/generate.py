"""Pictures from the base model."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from difflora.errors import BadFile
from difflora.quiet import without_bars
from difflora.world import GUIDANCE, STEPS

_BATCH = 50
_Pipeline = TypeVar("_Pipeline", bound=DiffusionPipeline)


def load_base(assets: Path) -> StableDiffusionXLPipeline:
    """The embedded base model as diffusers' own pipeline, quiet, in float32.

    Raises:
        BadFile: if it is missing or unreadable.
    """
    return load_pipeline(StableDiffusionXLPipeline, assets / "base", "base")


def load_pipeline(kind: type[_Pipeline], folder: Path, model: str) -> _Pipeline:
    """A base model of the world as diffusers' own pipeline, quiet, in float32.

    Args:
        kind: of pipeline.
        folder: where it lies.
        model: what `difflora world train` calls it.

    Raises:
        BadFile: if it is missing or unreadable.
    """
    if not (folder / "model_index.json").is_file():
        raise BadFile(f"{folder}: no base model here; give --assets, or make it with `difflora world train {model}`")
    try:
        with without_bars():
            pipeline: _Pipeline = kind.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise BadFile(
            f"{folder}: the base model cannot be read ({error}); check it by `difflora world manifest`"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline,
    prompts: list[str],
    seed: int,
    *,
    steps: int = STEPS,
    guidance_scale: float = GUIDANCE,
) -> Tensor:
    """One picture a prompt; picture i starts from noise seeded by ``seed + i``, whatever the batch.

    Returns:
        (N, 3, 64, 64) float32 in [0, 1].
    """
    pictures = []
    for start in range(0, len(prompts), _BATCH):
        part = prompts[start : start + _BATCH]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        output = pipeline(
            part,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=generators,
            output_type="pt",
        )
        pictures.append(output.images.float())
    return torch.cat(pictures)
