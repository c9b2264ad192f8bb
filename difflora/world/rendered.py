"""What the renderer's image sources share: ids of a seed, scenes that everyone is shown in, a record of consent."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from difflora.errors import BadParameter
from difflora.world.table import Table

_DRAWN_SINCE = "2026-11-24"
_One = TypeVar("_One", bound=Table)


@dataclass(frozen=True)
class RenderedCandidates:
    """Renders of one person or style.

    Attributes:
        images: (M, 3, 64, 64) uint8, RGB.
        captions: M sentences that leave open what the pictures have in common.
        class_word: what prompts call whoever is shown.
    """

    images: Tensor
    captions: list[str]
    class_word: str


class Rendered(ABC, Generic[_One]):
    """An image source whose every picture is a function of its id and the settings alone.

    Args:
        seed: of whom or what is drawn.
        same_scenes: how many of each one's pictures, the first ones, show the scenes that all share.
    """

    PREFIX: ClassVar[str]
    """Of ids."""
    NOBODY: ClassVar[str]
    """What an id of another source is called."""
    SHARED: ClassVar[str]
    """Names the scenes that all share."""

    def __init__(self, seed: int, same_scenes: int) -> None:
        if not 0 <= seed < 2**31:
            raise BadParameter(f"seed is {seed}: give one from 0 to {2**31 - 1}")
        if same_scenes < 0:
            raise BadParameter(f"same_scenes is {same_scenes}: give 0 or more")
        self.seed, self.same_scenes = seed, same_scenes

    def ids(self, count: int) -> list[str]:
        """The first ``count`` of this seed."""
        return [f"{self.PREFIX}-{self.seed}-{place:06d}" for place in range(count)]

    def place(self, identity: str) -> int:
        """Which of them an id is.

        Raises:
            BadParameter: if the id is not of this source.
        """
        match = re.fullmatch(rf"{self.PREFIX}-(\d+)-(\d{{6,}})", identity)
        if match is None or int(match[1]) != self.seed:
            raise BadParameter(f"{identity!r} is {self.NOBODY} of seed {self.seed}: ids are like {self.ids(1)[0]}")
        return int(match[2])

    def consent(self, identity: str) -> Mapping[str, Any]:
        """Nobody real is drawn, so there is nobody to ask."""
        return {"source": "rendered by difflora.world", "licence": "Apache-2.0", "date": _DRAWN_SINCE}

    def candidates(self, identity: str, count: int, seed: int) -> RenderedCandidates:
        """Draws ``count`` random scenes, the first ``same_scenes`` of which are everyone's.

        Raises:
            BadParameter: if the id is not of this source.
        """
        one, own = self._one(identity), max(0, count - self.same_scenes)
        parts = [
            draw(one, part, torch.Generator().manual_seed(number_of(name)))
            for draw, part, name in (
                (self._shared, self.same_scenes, f"{self.SHARED} {self.seed}"),
                (self._drawn, own, f"{identity} {seed}"),
            )
            if part
        ]
        images = torch.cat([drawn for drawn, _ in parts])[:count]
        captions = [each for _, said in parts for each in said][:count]
        return RenderedCandidates(images, captions, self._class_word(one))

    @abstractmethod
    def _one(self, identity: str) -> _One:
        """Who or what an id is, one row."""

    @abstractmethod
    def _class_word(self, one: _One) -> str:
        """What prompts call it."""

    @abstractmethod
    def _drawn(self, one: _One, count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """Pictures (count, 3, 64, 64) uint8 in scenes that the generator draws, and their captions."""

    def _shared(self, one: _One, count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """The same in scenes that all share."""
        return self._drawn(one, count, generator)


def number_of(text: str) -> int:
    """A seed of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def digest_of(images: Tensor) -> str:
    """A short hash of pictures (N, 3, H, W) in [0, 1], so that what a changed renderer draws never joins older ones."""
    return hashlib.sha256(images.mul(255).round().byte().numpy().tobytes()).hexdigest()[:16]
