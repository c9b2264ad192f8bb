"""Training people's pictures as the base model takes them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from difflora.corpus.latents import Encoded, encode_first
from difflora.corpus.people import Person
from difflora.training.kept import KeptPeople


class EncodedPeople(KeptPeople[Encoded]):
    """Latents and prompt embeddings of people's pictures; see ``KeptPeople`` for its arguments."""

    def _make(self, person: Person) -> Encoded:
        return encode_first(self._base, person, self._most, self._settings)

    def _tensors(self, made: Encoded) -> Sequence[Tensor | None]:
        return made.latents, made.prompt_embeds, made.pooled_embeds
