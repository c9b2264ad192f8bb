"""The renderer as a source of styles: each "person" is a way of drawing, and every picture shows somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from difflora.world.captions import caption
from difflora.world.render import render
from difflora.world.rendered import Rendered, digest_of, number_of
from difflora.world.scenes import Scenes, sample_scenes
from difflora.world.styles import KINDS, Styles, apply_styles, sample_styles
from difflora.world.traits import People, sample_people

CLASS_WORD = "person"


class RenderedStyles(Rendered[Styles]):
    """Styles of the embedded world; kinds come in turn.

    Args:
        seed: which styles.
        same_scenes: how many of each style's pictures, the first ones, show the same people in the same scenes.
    """

    PREFIX, NOBODY, SHARED = "style", "no style", "styled scenes"

    def __init__(self, seed: int = 0, same_scenes: int = 0) -> None:
        super().__init__(seed, same_scenes)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Seed, scenes and a hash of what every kind draws."""
        return {"kind": "styles", "seed": self.seed, "same_scenes": self.same_scenes, "renderer": _renderer()}

    def style(self, identity: str) -> Styles:
        """What a style is, one row.

        Raises:
            BadParameter: if the id is not of this source.
        """
        place = self.place(identity)
        own = sample_styles(1, torch.Generator().manual_seed(number_of(identity)))
        return own.replace(kind=torch.tensor(place % len(KINDS)))

    def _one(self, identity: str) -> Styles:
        return self.style(identity)

    def _class_word(self, one: Styles) -> str:
        return CLASS_WORD

    def _drawn(self, one: Styles, count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        images, people, scenes = draw_styled(one[[0] * count], generator)
        return images, caption(people, scenes, generator)


def draw_styled(styles: Styles, generator: torch.Generator) -> tuple[Tensor, People, Scenes]:
    """Draws somebody else in another scene for each of N styles.

    Returns:
        (N, 3, 64, 64) uint8, and the N people and scenes.
    """
    people, scenes = sample_people(len(styles), generator), sample_scenes(len(styles), generator)
    images = apply_styles(render(people, scenes).images, styles, generator)
    return images.mul(255).round().byte(), people, scenes


def _renderer() -> str:
    generator = torch.Generator().manual_seed(0)
    styles = sample_styles(len(KINDS), generator)
    drawn = render(sample_people(len(KINDS), generator), sample_scenes(len(KINDS), generator)).images
    return digest_of(apply_styles(drawn, styles, generator))
