"""People of a collection of photographs as an image source: who there is, their files, and square pictures of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from difflora.encoders.pictures import read_picture
from difflora.errors import BadFile, BadParameter
from difflora.identities.consent import Consent
from difflora.identities.source import Candidates, ImageSource

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Photograph:
    """A file of a person.

    Attributes:
        path: of the file.
        caption: a prompt that leaves the identity open; None for a plain one.
    """

    path: Path
    caption: str | None = None


@dataclass(frozen=True)
class Portrait:
    """A photograph in which the person's face was found.

    Attributes:
        path: of the file.
        caption: as of the photograph.
        box: the face, x1, y1, x2, y2 in pixels of the upright picture; None where nobody looked.
    """

    path: Path
    caption: str | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Depicted:
    """A person of a collection.

    Attributes:
        identity: the person's id.
        photographs: at least one.
        class_word: man, woman, person.
        consent: the person's record.
    """

    identity: str
    photographs: tuple[Photograph, ...]
    class_word: str
    consent: Consent


@dataclass(frozen=True)
class PhotographCandidates:
    """Square pictures of one person.

    Attributes:
        images: (M, 3, S, S) uint8, RGB.
        captions: M prompts.
        class_word: man, woman, person.
    """

    images: Tensor
    captions: list[str]
    class_word: str


@runtime_checkable
class PhotographSource(ImageSource, Protocol):
    """A source that begins with photographs: they are looked over, and repeated people found, before any is used."""

    def photographs(self, identity: str) -> Sequence[Photograph]:
        """The person's files.

        Raises:
            BadParameter: if there is no such person.
        """

    def make(self, identity: str, portraits: Sequence[Portrait], count: int, seed: int) -> Candidates:
        """At most ``count`` pictures of a person, from portraits that were looked over.

        Args:
            identity: whose they are.
            portraits: at least one; also of other ids, where those are the same person.
            count: how many pictures are wanted.
            seed: draws them.

        Raises:
            BadParameter: if there is no such person.
            BadImage: if a file cannot be read any more.
        """


@runtime_checkable
class MadeOfPhotographs(Protocol):
    """A source that makes pictures of another source's people, which may begin with photographs."""

    def over_photographs(self) -> PhotographSource | None:
        """The same people by their photographs; None where the other source has none."""


def photographs_behind(source: ImageSource) -> PhotographSource | None:
    """A source as one that begins with photographs; None where it does not."""
    if isinstance(source, PhotographSource):
        return source
    return source.over_photographs() if isinstance(source, MadeOfPhotographs) else None


class PhotographCollection:
    """Every collection behind one interface; the class of a layout hands its people on to this one.

    Args:
        kind: of the layout; settings carry it.
        people: everyone, in the collection's order.
        size: side to which pictures are brought.
        where: the collection's folder, for errors.

    Raises:
        BadFile: if there is nobody, an id is no file name, or two have the same.
        BadParameter: if the size is out of range.
    """

    def __init__(self, kind: str, people: Sequence[Depicted], size: int, where: Path) -> None:
        if not 16 <= size <= 8192:
            raise BadParameter(f"size is {size}: give a side from 16 to 8192 pixels")
        if not people:
            raise BadFile(f"{where}: shows nobody; give the folder of a collection")
        for identity, times in Counter(person.identity for person in people).items():
            if not _ID.fullmatch(identity):
                raise BadFile(
                    f"{where}: {identity!r} cannot be an id; rename it: letters, digits, dots, dashes and underscores, "
                    "at most 100"
                )
            if times > 1:
                raise BadFile(f"{where}: {identity!r} is there {times} times; one person has one id")
        self._kind, self._size, self._where = kind, size, where
        self._people = {person.identity: person for person in people}

    @property
    def settings(self) -> Mapping[str, Any]:
        """The layout and the pictures' side; not where the collection lies, which is a machine's own."""
        return {"kind": self._kind, "size": self._size}

    def ids(self, count: int) -> list[str]:
        """The first ``count`` people.

        Raises:
            BadParameter: if there are fewer.
        """
        if count > len(self._people):
            raise BadParameter(f"count is {count}, but {self._where} has {len(self._people)} people: ask for fewer")
        return list(self._people)[:count]

    def photographs(self, identity: str) -> Sequence[Photograph]:
        """The person's files.

        Raises:
            BadParameter: if there is no such person.
        """
        return self._person(identity).photographs

    def consent(self, identity: str) -> Mapping[str, Any]:
        """The person's record.

        Raises:
            BadParameter: if there is no such person.
        """
        return self._person(identity).consent.facts

    def candidates(self, identity: str, count: int, seed: int) -> PhotographCandidates:
        """The person's photographs as squares, at most ``count`` of them.

        Raises:
            BadParameter: if there is no such person.
            BadImage: if a file is no usable picture; it is named.
        """
        seen = [Portrait(one.path, one.caption) for one in self.photographs(identity)]
        return self.make(identity, seen, count, seed)

    def make(self, identity: str, portraits: Sequence[Portrait], count: int, seed: int) -> PhotographCandidates:
        """Portraits as squares around the faces; at most ``count``, drawn by the seed.

        Raises:
            BadParameter: if there is no such person.
            BadImage: if a file is no usable picture; it is named.
        """
        person = self._person(identity)
        order = torch.randperm(len(portraits), generator=torch.Generator().manual_seed(seed))[:count]
        chosen = [portraits[place] for place in order.sort().values.tolist()]
        images = torch.stack([square(read_picture(one.path), one.box, self._size) for one in chosen])  # (M, 3, S, S)
        plain = f"a photo of a {person.class_word}"
        return PhotographCandidates(images, [one.caption or plain for one in chosen], person.class_word)

    def _person(self, identity: str) -> Depicted:
        if identity not in self._people:
            like = next(iter(self._people))
            raise BadParameter(f"{self._where}: shows nobody called {identity!r}; ids are like {like}")
        return self._people[identity]


def square(picture: Image.Image, box: Sequence[float] | None, size: int) -> Tensor:
    """The largest square of a picture with the face in its middle, as far as there is room, (3, S, S) uint8.

    Args:
        picture: RGB, upright.
        box: the face, x1, y1, x2, y2 in pixels; None for the middle of the picture.
        size: S.
    """
    width, height = picture.size
    side = min(width, height)
    x1, y1, x2, y2 = box or (0.0, 0.0, float(width), float(height))
    left = min(max(round((x1 + x2 - side) / 2), 0), width - side)
    top = min(max(round((y1 + y2 - side) / 2), 0), height - side)
    fitted = picture.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


def folder_there(folder: str | Path, what: str) -> Path:
    """A collection's folder.

    Raises:
        BadFile: if it is not there.
    """
    path = Path(folder)
    if not path.is_dir():
        raise BadFile(f"{path}: no such folder; give that of {what}")
    return path


def visible(folder: Path, but: Path | None = None) -> list[Path]:
    """What lies in a folder, sorted, without hidden files, such as file managers leave, and without one other file."""
    shown = (one for one in folder.iterdir() if not one.name.startswith("."))
    return sorted(one for one in shown if but is None or one.resolve() != but.resolve())
