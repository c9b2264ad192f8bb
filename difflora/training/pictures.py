"""Training people's pictures as the base model takes them, encoded when they are first asked for."""

from __future__ import annotations

from collections.abc import Sequence

from difflora.corpus.base import FrozenBase
from difflora.corpus.latents import Encoded, encode_first
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings

_KEPT_BYTES = 2 * 2**30


class EncodedPeople:
    """Latents and prompt embeddings of people's pictures; kept up to 2 GiB, made again beyond.

    Args:
        base: the frozen base model.
        people: their pictures.
        names: whom, in the order of places.
        images: most pictures of a person, the first ones; None for all.
        settings: how pictures are resized and cropped; None for as they are.

    Raises:
        BadParameter: if there is no such person.
    """

    def __init__(
        self,
        base: FrozenBase,
        people: PeopleFolder,
        names: Sequence[str],
        images: int | None,
        settings: DreamBoothSettings | None = None,
    ) -> None:
        for name in names:
            people.line(name)
        self._settings = settings
        self._base, self._people, self._names, self._images = base, people, names, images
        self._kept: dict[int, Encoded] = {}
        self._bytes = 0

    def __getitem__(self, place: int) -> Encoded:
        """A person's pictures, on the base's device."""
        if place in self._kept:
            return self._kept[place]
        person = self._people.person(self._names[place])
        encoded = encode_first(self._base, person, self._images, self._settings)
        tensors = (encoded.latents, encoded.prompt_embeds, encoded.pooled_embeds)
        self._bytes += sum(tensor.nbytes for tensor in tensors if tensor is not None)
        if self._bytes <= _KEPT_BYTES:
            self._kept[place] = encoded
        return encoded
