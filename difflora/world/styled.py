"""The renderer as a source of styles: each "person" is a way of drawing, and every picture shows somebody else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from difflora.errors import BadParameter
from difflora.world.captions import caption
from difflora.world.identities import DRAWN_SINCE, RenderedCandidates, number_of
from difflora.world.render import render
from difflora.world.scenes import sample_scenes
from difflora.world.styles import KINDS, Styles, apply_styles, sample_styles
from difflora.world.traits import sample_people

CLASS_WORD = "person"
_ID = re.compile(r"style-(\d+)-(\d{6,})")


class RenderedStyles:
    """Styles of the embedded world.

    Args:
        seed: which styles.
        same_scenes: how many of each style's pictures, the first ones, show the same people in the same scenes.
    """

    def __init__(self, seed: int = 0, same_scenes: int = 0) -> None:
        if not 0 <= seed < 2**31:
            raise BadParameter(f"seed is {seed}: give one from 0 to {2**31 - 1}")
        if same_scenes < 0:
            raise BadParameter(f"same_scenes is {same_scenes}: give 0 or more")
        self.seed, self.same_scenes = seed, same_scenes

    @property
    def settings(self) -> Mapping[str, Any]:
        """Seed, scenes and a hash of what every kind draws."""
        return {"kind": "styles", "seed": self.seed, "same_scenes": self.same_scenes, "renderer": _renderer()}

    def ids(self, count: int) -> list[str]:
        """The first ``count`` styles of this seed; kinds come in turn."""
        return [f"style-{self.seed}-{place:06d}" for place in range(count)]

    def style(self, identity: str) -> Styles:
        """What a style is, one row.

        Raises:
            BadParameter: if the id is not of this source.
        """
        match = _ID.fullmatch(identity)
        if match is None or int(match.group(1)) != self.seed:
            raise BadParameter(f"{identity!r} is no style of seed {self.seed}: ids are like {self.ids(1)[0]}")
        own = sample_styles(1, torch.Generator().manual_seed(number_of(identity)))
        return own.replace(kind=torch.tensor(int(match.group(2)) % len(KINDS)))

    def consent(self, identity: str) -> Mapping[str, Any]:
        """Nobody real is drawn, so there is nobody to ask."""
        return {"source": "rendered by difflora.world", "licence": "Apache-2.0", "date": DRAWN_SINCE}

    def candidates(self, identity: str, count: int, seed: int) -> RenderedCandidates:
        """Draws ``count`` people in random scenes, the first ``same_scenes`` of which are every style's.

        Raises:
            BadParameter: if the id is not of this source.
        """
        style, own = self.style(identity), max(0, count - self.same_scenes)
        parts = [
            self._drawn(style, part, torch.Generator().manual_seed(number_of(name)))
            for part, name in ((self.same_scenes, f"styled scenes {self.seed}"), (own, f"{identity} {seed}"))
            if part
        ]
        images = torch.cat([drawn for drawn, _ in parts])[:count]
        return RenderedCandidates(images, [each for _, said in parts for each in said][:count], CLASS_WORD)

    @staticmethod
    def _drawn(style: Styles, count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """Pictures (count, 3, 64, 64) uint8 of random people in random scenes, and captions that name no style."""
        people, scenes = sample_people(count, generator), sample_scenes(count, generator)
        images = apply_styles(render(people, scenes).images, style[[0] * count], generator)
        return images.mul(255).round().byte(), caption(people, scenes, generator)


def _renderer() -> str:
    """A short hash of a picture of each kind, so that changed styles never join those of an older renderer."""
    generator = torch.Generator().manual_seed(0)
    styles = sample_styles(len(KINDS), generator)
    drawn = render(sample_people(len(KINDS), generator), sample_scenes(len(KINDS), generator)).images
    painted = apply_styles(drawn, styles, generator).mul(255).round().byte()
    return hashlib.sha256(painted.numpy().tobytes()).hexdigest()[:16]
