"""Preferences of the embedded world: which of two pictures a prompt would rather have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.world.captions import caption
from difflora.world.concepts import concepts, named
from difflora.world.pool import draw_pool
from difflora.world.scenes import Scenes, sample_scenes
from difflora.world.traits import sample_people

KINDS = ("spoilt", "one thing wrong", "another picture")
"""How the worse picture is worse: by its quality, by one attribute that the prompt names, or in all."""

ASKED = ("expression", "accessory", "clothing_colour", "background")
"""The attributes of which one may be wrong."""

_TRAIT_DROPOUT, _SCENE_DROPOUT = 0.7, 0.3
_BLOCK = 8


@dataclass(frozen=True)
class Preferences:
    """N prompts with two pictures each.

    Attributes:
        prompts: N captions.
        better: (N, 3, 64, 64) uint8, the render that its prompt describes.
        worse: (N, 3, 64, 64) uint8.
        kind: (N,) int64, the place in ``KINDS``.
    """

    prompts: list[str]
    better: Tensor
    worse: Tensor
    kind: Tensor


def draw_preferences(count: int, seed: int, *, progress: str = "") -> Preferences:
    """Draws preferences about people and scenes of their own, the kinds in equal parts.

    Where a prompt names nothing that could be wrong, its worse picture is a spoilt one.

    Args:
        count: N, two or more.
        seed: of all of it.
        progress: what a bar is to say; empty for no bar.
    """
    generator = torch.Generator().manual_seed(seed)
    people, scenes = sample_people(count, generator), sample_scenes(count, generator)
    prompts = caption(people, scenes, generator, trait_dropout=_TRAIT_DROPOUT, scene_dropout=_SCENE_DROPOUT)
    kind = torch.arange(count) % len(KINDS)
    changed, could = one_thing_changed(scenes, prompts, generator)
    kind[(kind == 1) & ~could] = 0
    better = draw_pool(people, scenes, torch.arange(count), progress=progress).images
    worse = better.roll(1, 0)  # another picture
    rows = (kind == 0).nonzero()[:, 0]
    worse[rows] = spoil(better[rows].float() / 255, generator).mul(255).round().byte()
    rows = (kind == 1).nonzero()[:, 0]
    worse[rows] = draw_pool(people[rows], changed[rows], rows).images
    return Preferences(prompts, better, worse, kind)


def one_thing_changed(scenes: Scenes, prompts: list[str], generator: torch.Generator) -> tuple[Scenes, Tensor]:
    """Scenes in which one attribute is another than the prompt says.

    Args:
        scenes: N scenes.
        prompts: their captions.
        generator: draws which attribute, and what it becomes.

    Returns:
        N scenes, and (N,) bool: whether the prompt names any attribute that could be changed.
    """
    words, flags = list(concepts()), named(prompts)  # (N, concepts)
    asked = torch.stack([_names_own(scenes, name, words, flags) for name in ASKED], dim=1)  # (N, 4)
    could = asked.any(1)
    odds = asked.float() + (~could)[:, None]
    chosen = torch.multinomial(odds, 1, generator=generator)[:, 0]  # (N,)
    columns: dict[str, Tensor] = {}
    for place, name in enumerate(ASKED):
        size, own = len(Scenes.CATEGORICAL[name]), scenes.index(name)
        step = torch.randint(1, size, (len(scenes),), generator=generator)
        columns[name] = torch.where((chosen == place) & could, (own + step) % size, own)
    return scenes.replace(**columns), could


def _names_own(scenes: Scenes, name: str, words: list[str], flags: Tensor) -> Tensor:
    """(N,) bool: whether each prompt names the value that its scene has."""
    own = scenes.index(name)
    found = torch.zeros(len(own), dtype=torch.bool)
    for value, word in enumerate(Scenes.CATEGORICAL[name]):
        if f"{name}: {word}" in words:
            found |= (own == value) & flags[:, words.index(f"{name}: {word}")]
    return found


def spoil(images: Tensor, generator: torch.Generator) -> Tensor:
    """Makes each picture clearly worse: blurred, coarse, noisy, washed out, or with displaced blocks.

    Args:
        images: (N, 3, S, S) float32 in [0, 1].
        generator: draws how, and how much.
    """
    ways = torch.randint(0, 5, (len(images),), generator=generator)
    amounts = torch.rand(len(images), generator=generator)
    spoilt = [
        _spoil_one(image[None], way, amount, generator)
        for image, way, amount in zip(images, ways.tolist(), amounts.tolist(), strict=True)
    ]
    return torch.cat([images[:0], *spoilt]).clamp(0, 1)


def _spoil_one(image: Tensor, way: int, amount: float, generator: torch.Generator) -> Tensor:
    side = image.shape[-1]
    match way:
        case 0:
            return _blurred(image, 1.0 + 1.5 * amount)
        case 1:
            few = round(side * (0.4 - 0.25 * amount))
            small = F.interpolate(image, size=(few, few), mode="bilinear", antialias=True)
            return F.interpolate(small, size=(side, side), mode="nearest")
        case 2:
            return image + (0.08 + 0.22 * amount) * torch.randn(image.shape, generator=generator)
        case 3:
            grey = torch.rand(1, 3, 1, 1, generator=generator)
            return torch.lerp(image, grey.expand_as(image), 0.4 + 0.4 * amount)
        case _:
            blocks = F.unfold(image, _BLOCK, stride=_BLOCK)  # (1, 3 * 64, blocks)
            moved = torch.rand(blocks.shape[2], generator=generator) < 0.15 + 0.35 * amount
            places = moved.nonzero()[:, 0]
            blocks[..., places] = blocks[..., places[torch.randperm(len(places), generator=generator)]]
            return F.fold(blocks, (side, side), _BLOCK, stride=_BLOCK)


def _blurred(image: Tensor, deviation: float) -> Tensor:
    reach = int(3 * deviation + 0.5)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    kernel = (line[:, None] * line / line.sum().square()).expand(3, 1, -1, -1)
    return F.conv2d(F.pad(image, (reach,) * 4, mode="replicate"), kernel, groups=3)
