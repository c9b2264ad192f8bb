"""The renderer as a source of people: candidates of any number of persons, each a function of its id alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from difflora.errors import BadParameter
from difflora.world.captions import caption
from difflora.world.pool import draw_pool
from difflora.world.render import render
from difflora.world.scenes import sample_scenes
from difflora.world.traits import People, sample_people

DRAWN_SINCE = "2026-11-24"
_ID = re.compile(r"rendered-(\d+)-(\d{6,})")


@dataclass(frozen=True)
class RenderedCandidates:
    """Renders of one person.

    Attributes:
        images: (M, 3, 64, 64) uint8, RGB.
        captions: M sentences that name no trait.
        class_word: man or woman.
    """

    images: Tensor
    captions: list[str]
    class_word: str


class RenderedPeople:
    """People of the embedded world.

    Args:
        seed: which people; trainings of the world's models used 1 and 2, whose people are drawn otherwise.
        subject: a word before the class word in captions, such as a DreamBooth token ("sks"); none by default.
        same_scenes: how many of each person's pictures, the first ones, show everyone in the same scenes, in words of
            their own.
    """

    def __init__(self, seed: int = 0, subject: str = "", same_scenes: int = 0) -> None:
        if not 0 <= seed < 2**31:
            raise BadParameter(f"seed is {seed}: give one from 0 to {2**31 - 1}")
        if same_scenes < 0:
            raise BadParameter(f"same_scenes is {same_scenes}: give 0 or more")
        self.seed, self.subject, self.same_scenes = seed, subject, same_scenes

    @property
    def settings(self) -> Mapping[str, Any]:
        """Seed, subject and a hash of what the renderer draws."""
        return {
            "kind": "rendered",
            "seed": self.seed,
            "subject": self.subject,
            "same_scenes": self.same_scenes,
            "renderer": _renderer(),
        }

    def ids(self, count: int) -> list[str]:
        """The first ``count`` people of this seed."""
        return [f"rendered-{self.seed}-{place:06d}" for place in range(count)]

    def person(self, identity: str) -> People:
        """Who a person is, one row.

        Raises:
            BadParameter: if the id is not of this source.
        """
        match = _ID.fullmatch(identity)
        if match is None or int(match.group(1)) != self.seed:
            raise BadParameter(f"{identity!r} is nobody of seed {self.seed}: ids are like {self.ids(1)[0]}")
        return sample_people(1, torch.Generator().manual_seed(number_of(identity)))

    def consent(self, identity: str) -> Mapping[str, Any]:
        """Nobody real is drawn, so there is nobody to ask."""
        return {"source": "rendered by difflora.world", "licence": "Apache-2.0", "date": DRAWN_SINCE}

    def candidates(self, identity: str, count: int, seed: int) -> RenderedCandidates:
        """Draws a person in ``count`` random scenes, the first ``same_scenes`` of which are everyone's.

        Raises:
            BadParameter: if the id is not of this source.
        """
        person, own = self.person(identity), max(0, count - self.same_scenes)
        parts = [
            self._drawn(person, part, torch.Generator().manual_seed(number_of(name)))
            for part, name in ((self.same_scenes, f"scenes {self.seed}"), (own, f"{identity} {seed}"))
            if part
        ]
        images = torch.cat([drawn for drawn, _ in parts])[:count]
        captions = [each for _, said in parts for each in said][:count]
        return RenderedCandidates(images, captions, person.gender[0])

    def _drawn(self, person: People, count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """Pictures (count, 3, 64, 64) of a person in scenes that the generator draws, and their captions."""
        people, scenes = person[[0] * count], sample_scenes(count, generator)
        pool = draw_pool(people, scenes, torch.zeros(count, dtype=torch.int64))
        return pool.images, caption(people, scenes, generator, trait_dropout=1.0, subject=self.subject)


def number_of(text: str) -> int:
    """A seed of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _renderer() -> str:
    """A short hash of a few pictures, so that a changed renderer never adds to the pictures of an older one."""
    generator = torch.Generator().manual_seed(0)
    drawn = render(sample_people(8, generator), sample_scenes(8, generator))
    return hashlib.sha256(drawn.images.mul(255).round().byte().numpy().tobytes()).hexdigest()[:16]
