"""Captions of training people's pictures as the base model takes them: what pictures are drawn by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.draws import Prompts
from difflora.corpus.framing import framed_size, whole_time_ids
from difflora.corpus.latents import embed_captions
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings
from difflora.errors import BadParameter

_KEPT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class _Told:
    prompt_embeds: Tensor  # (M, L, W)
    pooled_embeds: Tensor | None  # (M, W2)
    size: tuple[int, int]


class EncodedCaptions:
    """Prompt embeddings of people's captions, made when they are first asked for; kept up to 2 GiB, made again beyond.

    Nobody's picture is encoded.

    Args:
        base: the frozen base model.
        people: their captions, and the size of their pictures.
        names: whom, in the order of places.
        most: captions of a person at most, the first ones; None for all.
        settings: to which size pictures are brought; None for their own.

    Raises:
        BadParameter: if there is no such person.
    """

    def __init__(
        self,
        base: FrozenBase,
        people: PeopleFolder,
        names: Sequence[str],
        most: int | None,
        settings: DreamBoothSettings | None = None,
    ) -> None:
        for name in names:
            people.line(name)
        self._settings = settings or DreamBoothSettings()
        self._base, self._people, self._names, self._most = base, people, names, most
        self._kept: dict[int, _Told] = {}
        self._bytes = 0

    def gather(self, places: Sequence[int]) -> tuple[Prompts, tuple[int, int, int]]:
        """Some people's captions, and the shape of the latents of a picture (C, h, w).

        Pictures are drawn whole, whatever crops a LoRA learns from.

        Raises:
            BadParameter: if the people's pictures differ in size.
        """
        told = [self._of(place) for place in places]
        sizes = sorted({each.size for each in told})
        if len(sizes) != 1:
            raise BadParameter(
                f"pictures of different sizes ({sizes}): train people of one size together, or set a resolution"
            )
        height, width = sizes[0]
        counts = torch.tensor([len(each.prompt_embeds) for each in told], device=self._base.device)
        pooled = times = None
        if self._base.is_xl:
            pooled = torch.cat([each.pooled_embeds for each in told if each.pooled_embeds is not None])
            times = whole_time_ids(int(counts.sum()), sizes[0]).to(self._base.device)
        prompts = Prompts(
            torch.cat([each.prompt_embeds for each in told]), pooled, times, counts, counts.cumsum(0) - counts
        )
        pipeline = self._base.pipeline
        factor = int(pipeline.vae_scale_factor)
        return prompts, (int(pipeline.unet.config.in_channels), height // factor, width // factor)

    def _of(self, place: int) -> _Told:
        if place in self._kept:
            return self._kept[place]
        person = self._people.person(self._names[place])
        prompt, pooled = embed_captions(self._base, person.captions[: self._most])
        height, width = person.images.shape[2:]
        told = _Told(prompt, pooled, framed_size((height, width), self._settings))
        self._bytes += prompt.nbytes + (0 if pooled is None else pooled.nbytes)
        if self._bytes <= _KEPT_BYTES:
            self._kept[place] = told
        return told
