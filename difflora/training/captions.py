"""What pictures of training people are drawn by, as the base model takes it: their own captions, or given prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.draws import Prompts, one_size
from difflora.corpus.framing import framed_size, whole_time_ids
from difflora.corpus.latents import embed_captions
from difflora.corpus.people import PeopleFolder, Person
from difflora.corpus.settings import DreamBoothSettings
from difflora.prompts import for_person
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
    """Embeddings of what people are drawn by; nobody's picture is encoded.

    Args:
        base: see ``KeptPeople``, as for people, names, most and settings.
        prompts: what everyone is drawn by, with ``{person}``; None for the captions of people's own pictures.

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
        *,
        prompts: Sequence[str] | None = None,
    ) -> None:
        super().__init__(base, people, names, most, settings)
        self._prompts = prompts
        self._embedded: dict[str, tuple[Tensor, Tensor | None]] = {}  # of a class word, with given prompts

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
        if self._prompts is None:
            return Captions(*embed_captions(self._base, person.captions[: self._most]), size)
        word = person.class_word
        if word not in self._embedded:
            told = [for_person(prompt, word) for prompt in self._prompts]
            self._embedded[word] = embed_captions(self._base, told)
        return Captions(*self._embedded[word], size)

    def _tensors(self, made: Captions) -> Sequence[Tensor | None]:
        return (made.prompt_embeds, made.pooled_embeds) if self._prompts is None else ()
