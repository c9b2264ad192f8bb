"""What is made of training people when it is first asked for, and kept as far as there is room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder, Person
from difflora.corpus.settings import DreamBoothSettings

_KEPT_BYTES = 2 * 2**30
_Made = TypeVar("_Made")


class KeptPeople(ABC, Generic[_Made]):
    """Something of each person, kept up to 2 GiB, made again beyond.

    Args:
        base: the frozen base model.
        people: their pictures and captions.
        names: whom, in the order of places.
        most: pictures of a person at most, the first ones; None for all.
        settings: how pictures are resized and cropped; None for as they are.

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
        self._kept: dict[int, _Made] = {}
        self._bytes = 0

    def __getitem__(self, place: int) -> _Made:
        """A person's, on the base's device."""
        if place in self._kept:
            return self._kept[place]
        made = self._make(self._people.person(self._names[place]))
        self._bytes += sum(tensor.nbytes for tensor in self._tensors(made) if tensor is not None)
        if self._bytes <= _KEPT_BYTES:
            self._kept[place] = made
        return made

    @abstractmethod
    def _make(self, person: Person) -> _Made: ...

    @abstractmethod
    def _tensors(self, made: _Made) -> Sequence[Tensor | None]:
        """What of it takes room."""
