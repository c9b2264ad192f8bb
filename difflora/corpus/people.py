"""A folder of people: who they are, their pictures and captions, and the split of each.

    people.json       how they were made
    people.jsonl      a line a person, with the sha256 of the person's file
    people/ID.safetensors

It is written person after person by ``difflora.identities`` and read by whatever trains or measures on people.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from difflora.corpus.forgotten import Roster, is_tombstone
from difflora.corpus.header import begin, read_header, settings_digest, sweep
from difflora.corpus.lines import LineWriter, Record, read_lines
from difflora.corpus.splits import Split, SplitSettings, split_of
from difflora.errors import BadFile, BadParameter
from difflora.files import save_safetensors, sha256_file

KIND = "folder of people"
LIST, FILES = "people.jsonl", "people"
SEEN = "seen"
"""Folder of what an unfinished build saw in photographs; gone once it is done."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Person:
    """A person's pictures.

    Attributes:
        identity: the person's id.
        class_word: what prompts call such a person: man, woman.
        images: (M, 3, H, W) uint8, RGB: what a LoRA learns from.
        captions: M prompts that leave the identity open.
        references: (R, 3, H, W) uint8, RGB: pictures that no LoRA learns from, to condition on and to compare with.
        reference_captions: R prompts.
        boxes: (M, 4) float32, where the face is in each of ``images``, x1, y1, x2, y2 in pixels; zeros for no face.
        embeddings: name -> features of the pictures, before crop and flip, (M, D) or, as ``references.NAME``, of the
            references (R, D).
        landmarks: (M, 5, 2) float32, where eyes, nose and corners of the mouth are in each of ``images``, in pixels;
            None where nobody looked for them.
    """

    identity: str
    class_word: str
    images: Tensor
    captions: list[str]
    references: Tensor
    reference_captions: list[str]
    boxes: Tensor
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    landmarks: Tensor | None = None


class PeopleFolder:
    """People on disk, checked on read.

    Args:
        folder: what ``PeopleWriter`` wrote.

    Attributes:
        skipped: id -> the line of whoever was passed over; ``skipped`` says why.

    Raises:
        BadFile: if it is missing, or its header or lines are damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.settings = read_header(self.folder / "people.json", KIND)
        lines = [line for line in read_lines(self.folder / LIST) if not is_tombstone(line)]
        self._lines = {str(line["identity"]): line for line in lines if "skipped" not in line}
        self.skipped = {str(line["identity"]): line for line in lines if "skipped" in line}

    @property
    def digest(self) -> str:
        """Tells how the people were made; equal for a folder and for one with more people."""
        return settings_digest(self.settings)

    @property
    def ids(self) -> list[str]:
        """Everyone, in the order of making, which more people only add to."""
        return list(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def line(self, identity: str) -> Record:
        """What is known of a person without opening the pictures: split, class_word, counts.

        Raises:
            BadParameter: if there is no such person.
        """
        if identity not in self._lines:
            raise BadParameter(f"{self.folder}: has nobody called {identity!r}")
        return self._lines[identity]

    def size(self, identity: str) -> tuple[int, int]:
        """Height and width of a person's pictures, without reading them.

        Raises:
            BadParameter: if there is no such person.
            BadFile: if the file is missing or holds no person.
        """
        self.line(identity)
        path = self.folder / FILES / f"{identity}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                height, width = file.get_slice("images").get_shape()[2:]
        except (SafetensorError, OSError, ValueError) as error:
            raise BadFile(f"{path}: holds no person ({error}); restore it, or make it again") from error
        return height, width

    def split(self, name: Split) -> list[str]:
        """The ids of a split."""
        return [identity for identity, line in self._lines.items() if line["split"] == name]

    def came_in(self, identity: str) -> bool:
        """Whether the person came in through the drop folder, with a consent record of their own."""
        return "record_sha256" in self.line(identity).get("consent", {})

    def person(self, identity: str) -> Person:
        """Reads a person.

        Raises:
            BadParameter: if there is no such person.
            BadFile: if the file is missing or not as it was written.
        """
        line = self.line(identity)
        path = self.folder / FILES / f"{identity}.safetensors"
        if not path.is_file():
            raise BadFile(f"{path}: no such file, though {identity} is listed; restore it")
        if sha256_file(path) != line["sha256"]:
            raise BadFile(f"{path}: was changed (its sha256 differs); restore it")
        try:
            with safe_open(path, framework="pt") as file:
                words = json.loads(file.metadata()["person"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BadFile(f"{path}: holds no person ({error}); make it again") from error
        if missing := sorted({"images", "references", "boxes"} - tensors.keys()):
            raise BadFile(f"{path}: lacks {', '.join(missing)}; remove the folder and make the people again")
        images, references, boxes = (tensors.pop(name) for name in ("images", "references", "boxes"))
        captions, others = words["captions"], words["reference_captions"]
        landmarks = tensors.pop("landmarks", None)
        return Person(
            identity, str(line["class_word"]), images, captions, references, others, boxes, tensors, landmarks
        )


class PeopleWriter:
    """Adds people to a folder; a kill at any moment loses at most the person in the making.

    Args:
        folder: made if missing.
        settings: plain values that decide what a person's pictures are.
        splits: how people are split.

    Attributes:
        done: everyone who is there, was skipped, or was forgotten.

    Raises:
        BadParameter: if the folder was begun with other settings; the key is named.
        BadFile: if what is there is damaged.
        DiffLoRAError: if another process writes it.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any], splits: SplitSettings) -> None:
        self.folder, self._splits = Path(folder), splits
        begin(self.folder / "people.json", KIND, {**settings, "splits": splits.model_dump()})
        self._lines = LineWriter(self.folder / LIST)
        sweep(self.folder, self.folder / FILES)
        self.done = Roster(self._lines.records)

    def add(self, person: Person, **facts: Any) -> None:
        """Writes a person's file, then the line that lists it.

        Args:
            person: whom to add.
            **facts: plain values for the line.

        Raises:
            BadParameter: for an id that is no file name, is there already, or was forgotten.
        """
        self._check(person.identity)
        path = self.folder / FILES / f"{person.identity}.safetensors"
        tensors = {
            "images": person.images,
            "references": person.references,
            "boxes": person.boxes,
            **person.embeddings,
            **({} if person.landmarks is None else {"landmarks": person.landmarks}),
        }
        words = {"captions": person.captions, "reference_captions": person.reference_captions}
        save_safetensors(path, tensors, {"person": json.dumps(words)})
        line = {
            "identity": person.identity,
            "split": split_of(person.identity, self._splits),
            "class_word": person.class_word,
            "images": len(person.images),
            "references": len(person.references),
            "sha256": sha256_file(path),
        }
        self._append(line | facts)

    def skip(self, identity: str, reason: str, **facts: Any) -> None:
        """Lists a person as unusable, so that no later call tries again.

        Args:
            identity: the person's id.
            reason: why.
            **facts: plain values for the line; ``same_as`` is the id of who this person is as well.
        """
        self._check(identity)
        self._append({"identity": identity, "skipped": reason} | facts)

    def _append(self, line: Record) -> None:
        self._lines.append([line])
        self.done.add(str(line["identity"]))

    def _check(self, identity: str) -> None:
        if not _NAME.fullmatch(identity):
            raise BadParameter(
                f"{identity!r} is no id: give letters, digits, dots, dashes and underscores, at most 100"
            )
        if self.done.forgot(identity):
            raise BadParameter(f"{self.folder}: {identity} was forgotten and does not come back")
        if identity in self.done:
            raise BadParameter(f"{self.folder}: has {identity} already")

    def finish(self) -> None:
        """Seals the list: from now on a missing line is an error."""
        self._lines.seal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.__exit__(kind, error, trace)


def no_boxes(images: Tensor) -> Tensor:
    """Boxes of pictures whose faces nobody looked for: (M, 4) zeros."""
    return torch.zeros(len(images), 4)


def no_pictures(like: Tensor) -> Tensor:
    """No pictures, of the size of others: (0, 3, H, W) uint8."""
    return torch.empty(0, *like.shape[1:], dtype=torch.uint8)
