"""The style base's bars: does it draw people, and in the style that a prompt names?"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from difflora.world import GUIDANCE, STEPS
from difflora.world.bars import Bar
from difflora.world.captions import caption
from difflora.world.faces.pack import embed_images
from difflora.world.generate import generate, load_pipeline
from difflora.world.scenes import sample_scenes
from difflora.world.style_models.base import FOLDER
from difflora.world.style_models.data import in_style
from difflora.world.style_models.judge import StyleNames
from difflora.world.styles import KINDS
from difflora.world.traits import sample_people

_COUNT = 196


def load_style_base(assets: Path) -> StableDiffusionPipeline:
    """The style base as diffusers' own pipeline, quiet, in float32.

    Raises:
        BadFile: if it is missing or unreadable.
    """
    return load_pipeline(StableDiffusionPipeline, assets / FOLDER, "style_base")


def verify_style_base(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """Draws fresh prompts as they are, and again with a kind of style named, and asks detector and style judge.

    Args:
        assets: folder of the embedded world's assets.
        seed: of people, scenes, prompts and noise.
        count: prompts; None for 196, seven a kind.

    Raises:
        BadFile: if the base, the face pack or the judge is missing.
    """
    number = count or _COUNT
    generator = torch.Generator().manual_seed(seed)
    people, scenes = sample_people(number, generator), sample_scenes(number, generator)
    said, kinds = caption(people, scenes, generator), torch.arange(number) % len(KINDS)
    pipeline, names = load_style_base(assets), StyleNames(assets, seed + 1)
    plain = generate(pipeline, said, seed, steps=STEPS, guidance_scale=GUIDANCE)  # (N, 3, 64, 64)
    named = [in_style(list(KINDS)[kind], one) for kind, one in zip(kinds.tolist(), said, strict=True)]
    styled = generate(pipeline, named, seed, steps=STEPS, guidance_scale=GUIDANCE)
    found = embed_images(assets, plain).norm(dim=1) > 0
    return [
        Bar("style base: pictures with a face, no style named", 0.9, float(found.float().mean())),
        Bar("style base: the named kind of style is drawn", 0.7, float((names.name(styled) == kinds).float().mean())),
        Bar(
            "style base: the same kind without its name (chance)",
            math.nan,
            float((names.name(plain) == kinds).float().mean()),
        ),
    ]
