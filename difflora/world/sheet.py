"""Picture sheets: rows of people with their prompts beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from difflora.errors import BadParameter
from difflora.files import write_atomic
from difflora.grid import grid
from difflora.world import GUIDANCE, STEPS
from difflora.world.captions import caption
from difflora.world.generate import generate, load_base
from difflora.world.pool import fresh_pool

PROMPTS = (
    "a photo of a woman smiling, with glasses, wearing a green t-shirt, on a beach",
    "a portrait of a man with a full beard, looking angry, wearing a blue hoodie, in a city",
    "a close-up photo of a woman with curly hair, laughing, wearing a yellow shirt, in a forest",
    "a photo of a man looking surprised, wearing a hat, wearing a red t-shirt, in the mountains",
    "a photo of a woman with long hair and red hair, looking sad, wearing a purple shirt, in a grey studio",
    "a portrait of a man with dark skin, looking calm, with headphones, wearing a white hoodie, under a night sky",
)
"""What a sheet shows when nobody asks for something else."""

MOST = 400


def base_sheet(
    assets: Path,
    prompts: Sequence[str],
    seed: int,
    out: Path,
    *,
    columns: int = 6,
    steps: int = STEPS,
    guidance_scale: float = GUIDANCE,
) -> None:
    """Draws ``columns`` people a prompt with the embedded base model and writes them as one PNG.

    Args:
        assets: the assets folder; the model is its ``base``.
        prompts: one a row.
        seed: picture i of row j has a seed of its own, a function of (seed, j, i).
        out: the PNG to write.
        columns: pictures a row.
        steps: denoising steps.
        guidance_scale: classifier-free guidance.

    Raises:
        BadFile: if the base model is missing or unreadable.
        BadParameter: for an empty prompt, a number out of range or an ``out`` that is no PNG.
    """
    _check(out, rows=len(prompts), columns=columns, seed=seed)
    if any(not prompt.strip() for prompt in prompts):
        raise BadParameter("a prompt is empty: say what to draw")
    if not 1 <= steps <= 1000:
        raise BadParameter(f"steps is {steps}: give 1 to 1000")
    if not 0 <= guidance_scale <= 30:
        raise BadParameter(f"guidance scale is {guidance_scale:g}: give 0 to 30")
    pipe = load_base(assets)
    rows = []
    for row, prompt in enumerate(prompts):
        first = seed * 1_000_003 + row * MOST
        rows.append(generate(pipe, [prompt] * columns, first, steps=steps, guidance_scale=guidance_scale))
    write_atomic(out, grid(rows, list(prompts)))


def render_sheet(people: int, images: int, seed: int, out: Path) -> None:
    """Renders ``images`` pictures of each of ``people`` persons, a row a person, and writes them as one PNG.

    Beside each row stands the caption of its first picture.

    Raises:
        BadParameter: for a number out of range or an ``out`` that is no PNG.
    """
    _check(out, rows=people, columns=images, seed=seed)
    pool = fresh_pool(people, images, seed)
    generator = torch.Generator().manual_seed(seed)
    captions = caption(pool.people[::images], pool.scenes[::images], generator)
    write_atomic(out, grid(list(pool.batch(torch.arange(len(pool))).split(images)), captions))


def _check(out: Path, *, rows: int, columns: int, seed: int) -> None:
    if rows < 1 or columns < 1 or rows * columns > MOST:
        raise BadParameter(f"{rows} rows of {columns} pictures: give at least one of each and at most {MOST} in all")
    if not 0 <= seed < 2**31:
        raise BadParameter(f"seed is {seed}: give one from 0 to {2**31 - 1}")
    if out.suffix.lower() != ".png" or out.is_dir():
        raise BadParameter(f"{out}: give the name of a .png file to write")
