"""Pools of rendered pictures, drawn once and kept on disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from difflora.errors import BadParameter
from difflora.world.cached import cached
from difflora.world.render import SIZE, render
from difflora.world.scenes import Scenes, sample_scenes
from difflora.world.traits import People, sample_people

logger = logging.getLogger(__name__)

GENERIC_SEED, PEOPLE_SEED = 1, 2
"""Seeds of the training pools; bars are measured on other seeds."""

GENERIC_COUNT = 60_000
PEOPLE_COUNT, IMAGES_EACH = 3_000, 14
"""Sizes of the training pools that all models share."""

_BATCH = 64


@dataclass(frozen=True)
class Pool:
    """N pictures and all that is known of them.

    Attributes:
        images: (N, 3, 64, 64) uint8.
        boxes: (N, 4) float32 in pixels.
        landmarks: (N, 5, 2) float32 in pixels.
        people: N rows, one a picture.
        scenes: N rows, one a picture.
        identity: (N,) int64, equal for pictures of one person.
    """

    images: Tensor
    boxes: Tensor
    landmarks: Tensor
    people: People
    scenes: Scenes
    identity: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Tensor) -> Tensor:
        """Pictures as (B, 3, 64, 64) float32 in [0, 1]."""
        return self.images[rows].float() / 255

    def first(self, count: int) -> Pool:
        """The first ``count`` pictures."""
        rows = slice(count)
        return Pool(
            self.images[rows],
            self.boxes[rows],
            self.landmarks[rows],
            self.people[rows],
            self.scenes[rows],
            self.identity[rows],
        )


def draw_pool(people: People, scenes: Scenes, identity: Tensor, *, progress: str = "") -> Pool:
    """Draws one picture a row."""
    images = torch.empty(len(people), 3, SIZE, SIZE, dtype=torch.uint8)
    boxes, landmarks = torch.empty(len(people), 4), torch.empty(len(people), 5, 2)
    for start in tqdm(range(0, len(people), _BATCH), desc=progress, disable=not progress, unit="batch"):
        rows = slice(start, start + _BATCH)
        drawn = render(people[rows], scenes[rows])
        images[rows] = drawn.images.mul(255).round().byte()
        boxes[rows], landmarks[rows] = drawn.boxes, drawn.landmarks
    return Pool(images, boxes, landmarks, people, scenes, identity)


def fresh_pool(people: int, images_each: int, seed: int) -> Pool:
    """Draws ``images_each`` pictures of each of ``people`` new persons; nothing is stored."""
    generator = torch.Generator().manual_seed(seed)
    persons = sample_people(people, generator)
    identity = torch.arange(people).repeat_interleave(images_each)
    scenes = sample_scenes(people * images_each, generator)
    return draw_pool(persons[identity], scenes, identity, progress=f"render {people} x {images_each}")


def _cached(people: int, images_each: int, seed: int, folder: Path) -> Pool:
    def make() -> dict[str, Tensor]:
        pool = fresh_pool(people, images_each, seed)
        return {
            "images": pool.images,
            "boxes": pool.boxes,
            "landmarks": pool.landmarks,
            "people.continuous": pool.people.continuous,
            "people.categorical": pool.people.categorical,
            "scenes.continuous": pool.scenes.continuous,
            "scenes.categorical": pool.scenes.categorical,
            "identity": pool.identity,
        }

    read = cached(folder, f"pool-{people}x{images_each}-seed{seed}", _recipe(), make)
    return Pool(
        read["images"],
        read["boxes"],
        read["landmarks"],
        People(read["people.continuous"], read["people.categorical"]),
        Scenes(read["scenes.continuous"], read["scenes.categorical"]),
        read["identity"],
    )


def rows_by_person(identity: Tensor, least: int = 1) -> Tensor:
    """(people, pictures each) int64 rows of a pool in which everyone has equally many pictures.

    Args:
        identity: (N,) int64, whose each picture is.
        least: pictures that everyone must have.

    Raises:
        BadParameter: if somebody has more than another, or fewer than ``least``.
    """
    counts = torch.bincount(identity)
    fewest, most = int(counts.min()), int(counts.max())
    if fewest != most or fewest < least:
        raise BadParameter(
            f"the pool has {fewest} to {most} pictures a person; equally many are needed, at least {least}"
        )
    return identity.argsort(stable=True).reshape(len(counts), -1)


def _recipe() -> bytes:
    """A few pictures, so that a changed renderer never meets old ones."""
    generator = torch.Generator().manual_seed(0)
    drawn = render(sample_people(8, generator), sample_scenes(8, generator))
    return drawn.images.mul(255).round().byte().numpy().tobytes()


def generic_pool(count: int = GENERIC_COUNT, seed: int = GENERIC_SEED, folder: Path = Path("data/world")) -> Pool:
    """``count`` pictures, each of another person; drawn once, then read from ``folder``."""
    return _cached(count, 1, seed, folder)


def people_pool(
    people: int = PEOPLE_COUNT,
    images_each: int = IMAGES_EACH,
    seed: int = PEOPLE_SEED,
    folder: Path = Path("data/world"),
) -> Pool:
    """``images_each`` pictures of each of ``people`` persons; drawn once, then read from ``folder``."""
    return _cached(people, images_each, seed, folder)
