"""Captions of training people's pictures as the base model takes them: what pictures are drawn by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from difflora.corpus.draws import Prompts, one_size
from difflora.corpus.framing import framed_size, whole_time_ids
from difflora.corpus.latents import embed_captions
from difflora.corpus.people import Person
from difflora.training.kept import KeptPeople


@dataclass(frozen=True)
class Captions:
    """M captions of a person; pictures are drawn whole, whatever crops a LoRA learns from.

    Attributes:
        prompt_embeds: (M, L, W), in the UNet's type.
        pooled_embeds: (M, W2) likewise, or None where the UNet takes none.
        size: height and width of the pictures in pixels.
    """

    prompt_embeds: Tensor
    pooled_embeds: Tensor | None
    size: tuple[int, int]

    @property
    def told(self) -> Tensor:
        """How SDXL is told of sizes, (M, 6) float32."""
        return whole_time_ids(len(self.prompt_embeds), self.size)


class EncodedCaptions(KeptPeople[Captions]):
    """Embeddings of people's captions; nobody's picture is encoded. See ``KeptPeople`` for its arguments."""

    def gather(self, places: Sequence[int]) -> tuple[Prompts, tuple[int, int, int]]:
        """Some people's captions, and the shape of the latents of a picture (C, h, w).

        Raises:
            BadParameter: if the people's pictures differ in size.
        """
        people, pipeline = [self[place] for place in places], self._base.pipeline
        height, width = one_size(each.size for each in people)
        most = max(len(each.prompt_embeds) for each in people)
        factor = int(pipeline.vae_scale_factor)
        shape = (int(pipeline.unet.config.in_channels), height // factor, width // factor)
        return Prompts.of(self._base, people, most), shape

    def _make(self, person: Person) -> Captions:
        height, width = person.images.shape[2:]
        size = framed_size((height, width), self._settings)
        return Captions(*embed_captions(self._base, person.captions[: self._most]), size)

    def _tensors(self, made: Captions) -> Sequence[Tensor | None]:
        return made.prompt_embeds, made.pooled_embeds
