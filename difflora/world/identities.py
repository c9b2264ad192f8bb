"""The renderer as a source of people: candidates of any number of persons, each a function of its id alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from difflora.world.captions import caption
from difflora.world.pool import draw_pool
from difflora.world.render import render
from difflora.world.rendered import Rendered, digest_of, number_of
from difflora.world.scenes import Scenes, sample_scenes, spread_scenes
from difflora.world.traits import People, sample_people


class RenderedPeople(Rendered[People]):
    """People of the embedded world.

    Args:
        seed: which people; trainings of the world's models used 1 and 2, whose people are drawn otherwise.
        subject: a word before the class word in captions, such as a DreamBooth token ("sks"); none by default.
        same_scenes: how many of each person's pictures, the first ones, show everyone in the same scenes, in words of
            their own; between them these show every expression, accessory, garment and background as often.
    """

    PREFIX, NOBODY, SHARED = "rendered", "nobody", "scenes"

    def __init__(self, seed: int = 0, subject: str = "", same_scenes: int = 0) -> None:
        super().__init__(seed, same_scenes)
        self.subject = subject

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

    def person(self, identity: str) -> People:
        """Who a person is, one row.

        Raises:
            BadParameter: if the id is not of this source.
        """
        self.place(identity)
        return sample_people(1, torch.Generator().manual_seed(number_of(identity)))

    def _one(self, identity: str) -> People:
        return self.person(identity)

    def _class_word(self, one: People) -> str:
        return one.gender[0]

    def _drawn(self, one: People, count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        return self._shown(one, sample_scenes(count, generator), generator)

    def _shared(self, one: People, count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        return self._shown(one, spread_scenes(count, generator), generator)

    def _shown(self, one: People, scenes: Scenes, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        people = one[[0] * len(scenes)]
        pool = draw_pool(people, scenes, torch.zeros(len(scenes), dtype=torch.int64))
        return pool.images, caption(people, scenes, generator, trait_dropout=1.0, subject=self.subject)


def _renderer() -> str:
    generator = torch.Generator().manual_seed(0)
    people = sample_people(16, generator)
    scenes = Scenes.concatenate([sample_scenes(8, generator), spread_scenes(8, generator)])
    return digest_of(render(people, scenes).images)
