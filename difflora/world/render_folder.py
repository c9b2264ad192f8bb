"""A folder of rendered people: ``<person>/<n>.png`` and ``captions.jsonl`` with all that is known of each picture."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from difflora.errors import BadParameter
from difflora.files import write_atomic
from difflora.folders import whole_folder
from difflora.world.captions import caption
from difflora.world.pool import Pool, draw_pool
from difflora.world.scenes import Scenes, sample_scenes
from difflora.world.table import Table
from difflora.world.traits import People, sample_people

logger = logging.getLogger(__name__)

CAPTIONS = "captions.jsonl"
MOST = 1_000_000
"""The most pictures in one folder."""

_BATCH = 64


def render_folder(out: Path, *, people: int, images: int, seed: int, overwrite: bool = False) -> int:
    """Renders ``images`` pictures of each of ``people`` persons into ``out``.

    Everything is drawn into a folder beside it, which is then renamed: ``out`` is whole or not there. The same numbers
    give the same files.

    Args:
        out: the folder to make; it may exist if it is empty.
        people: how many persons.
        images: pictures of each.
        seed: decides persons, scenes and captions.
        overwrite: whether a folder that an earlier call made may be replaced.

    Returns:
        The number of pictures written.

    Raises:
        BadParameter: for a number out of range, or an ``out`` that is a file or holds something else.
    """
    _check(out, people, images, seed, overwrite)
    with whole_folder(out) as folder:
        lines = [json.dumps(line) for line in _draw(folder, people, images, seed)]
        write_atomic(folder / CAPTIONS, ("\n".join(lines) + "\n").encode())
    return people * images


def _check(out: Path, people: int, images: int, seed: int, overwrite: bool) -> None:
    for name, value in (("people", people), ("images", images)):
        if not 1 <= value <= MOST:
            raise BadParameter(f"{name} is {value}: give 1 to {MOST}")
    if people * images > MOST:
        raise BadParameter(f"{people} people with {images} images each are {people * images} pictures: at most {MOST}")
    if not 0 <= seed < 2**63:
        raise BadParameter(f"seed is {seed}: give one from 0 to {2**63 - 1}")
    if out.exists() and not out.is_dir():
        raise BadParameter(f"{out} is a file: give a folder to make")
    if out.is_dir() and any(out.iterdir()):
        if not (out / CAPTIONS).is_file():
            raise BadParameter(f"{out} is not empty and holds no {CAPTIONS}: give another folder, it is left alone")
        if not overwrite:
            raise BadParameter(f"{out} holds pictures already: give another folder, or --overwrite to replace them")


def _draw(folder: Path, people: int, images: int, seed: int) -> Iterator[dict[str, Any]]:
    """Writes the pictures and gives their lines."""
    generator = torch.Generator().manual_seed(seed)
    persons = sample_people(people, generator)
    identity = torch.arange(people).repeat_interleave(images)
    scenes = sample_scenes(people * images, generator)
    for start in tqdm(range(0, people * images, _BATCH), desc="render", unit="batch"):
        rows = slice(start, start + _BATCH)
        pool = draw_pool(persons[identity[rows]], scenes[rows], identity[rows])
        captions = caption(pool.people, pool.scenes, generator)
        for i in range(len(pool)):
            person, n = divmod(start + i, images)
            name = f"{person:0{len(str(people - 1))}d}/{n:0{len(str(images - 1))}d}.png"
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(_png(pool, i))
            yield _line(pool, i, name, person, captions[i])


def _png(pool: Pool, row: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pool.images[row].permute(1, 2, 0))).save(buffer, format="PNG")  # (H, W, 3)
    return buffer.getvalue()


def _line(pool: Pool, row: int, name: str, person: int, sentence: str) -> dict[str, Any]:
    return {
        "file": name,
        "caption": sentence,
        "person": person,
        "box": [round(x, 3) for x in pool.boxes[row].tolist()],
        "landmarks": [[round(x, 3) for x in point] for point in pool.landmarks[row].tolist()],
        "traits": _attributes(pool.people, row),
        "scene": _attributes(pool.scenes, row),
    }


def _attributes(table: People | Scenes, row: int) -> dict[str, str | float]:
    one: Table = table[row : row + 1]
    words: dict[str, str | float] = {name: one.names(name)[0] for name in one.CATEGORICAL}
    return words | {name: round(float(one.value(name)), 6) for name in one.CONTINUOUS}
