"""A corpus: LoRAs of many people as flat rows, found by identity, checked when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difflora.corpus.forgotten import is_tombstone
from difflora.corpus.header import read_header, settings_digest
from difflora.corpus.lines import read_lines
from difflora.corpus.shards import ShardFormat, row_sha256
from difflora.corpus.splits import SPLITS, Split
from difflora.errors import BadFile, BadParameter
from difflora.lora import LoraLayout

KIND = "corpus of LoRAs"
HEADER, INDEX, FAILURES, SHARDS = "corpus.json", "index.jsonl", "failures.jsonl", "shards"


@dataclass(frozen=True)
class Entry:
    """What the index says of a row.

    Attributes:
        identity: whose LoRA it is.
        split: train, validation or test.
        class_word: what prompts call the person: man, woman.
        shard: number of the shard.
        row: place in the shard.
        sha256: of the row's bytes.
        seed: of the training.
        settings: sha256 of all settings of the corpus.
        images: pictures that the LoRA learnt from.
        loss: the teacher's: mean training loss over the last quarter of the steps.
        consent: the person's record: source, licence and date; None where the people have none.
    """

    identity: str
    split: Split
    class_word: str
    shard: int
    row: int
    sha256: str
    seed: int
    settings: str
    images: int
    loss: float
    consent: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values; without a record there is no key for it."""
        return {key: value for key, value in asdict(self).items() if key != "consent" or value is not None}


class Corpus:
    """LoRAs on disk, memory-mapped.

    corpus = Corpus.open("data/corpus")
    rows = corpus.rows(corpus.indices("train"))     # (N, D) float32
    tensors = corpus.layout.views(rows)

    Args:
        folder: what ``difflora corpus build`` made.
        check: whether each row's sha256 is compared when it is first read.

    Raises:
        BadFile: if the folder is missing, or its header, index or a shard is damaged; file and line or row are named.
    """

    def __init__(self, folder: str | Path, *, check: bool = True) -> None:
        self.folder, self._check = Path(folder), check
        path = self.folder / HEADER
        self.settings = read_header(path, KIND)
        self.digest = settings_digest(self.settings)
        self.layout, self._format = open_format(self.folder, self.settings)
        self.entries = self._read_index()
        self._seen = np.zeros(len(self.entries), dtype=bool)
        self._maps: dict[int, np.memmap[Any, Any]] = {}
        for shard in sorted({entry.shard for entry in self.entries}):
            self._format.check(shard)

    @classmethod
    def open(cls, folder: str | Path, *, check: bool = True) -> Corpus:
        """The same as the class itself."""
        return cls(folder, check=check)

    def _read_index(self) -> list[Entry]:
        path, entries = self.folder / INDEX, []
        for number, line in enumerate(read_lines(path)):
            if is_tombstone(line):
                continue
            try:
                entry = Entry(**line)
            except TypeError as error:
                raise BadFile(f"{path}: line {number + 1} is no row of a corpus ({error}); restore the file") from error
            if (entry.shard, entry.row) != divmod(number, self._format.rows) or entry.settings != self.digest:
                raise BadFile(f"{path}: line {number + 1} is not of row {number} of this corpus; restore the file")
            entries.append(entry)
        if len({entry.identity for entry in entries}) != len(entries):
            raise BadFile(f"{path}: lists a person twice; restore the file")
        return entries

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def places(self) -> dict[str, int]:
        """Identity -> place of the person's row."""
        return {entry.identity: place for place, entry in enumerate(self.entries)}

    def indices(self, split: Split) -> list[int]:
        """Places of a split's rows.

        Raises:
            BadParameter: if there is no such split.
        """
        if split not in SPLITS:
            raise BadParameter(f"split is {split!r}: give {', '.join(SPLITS)}")
        return [place for place, entry in enumerate(self.entries) if entry.split == split]

    def __getitem__(self, place: int) -> Tensor:
        """A row, (D,), in the corpus's own type and in its own storage.

        Raises:
            IndexError: if there is no such row.
            BadFile: if the row was changed since it was written.
        """
        if not 0 <= place < len(self.entries):
            raise IndexError(f"row {place} of a corpus of {len(self.entries)}")
        entry = self.entries[place]
        if entry.shard not in self._maps:
            self._maps[entry.shard] = self._format.map(entry.shard)
        data = self._maps[entry.shard][entry.row]
        if self._check and not self._seen[place]:
            if row_sha256(data) != entry.sha256:
                file = self._format.path(entry.shard)
                raise BadFile(
                    f"{file}: row {entry.row} ({entry.identity}, row {place} of the corpus) was changed, "
                    "its sha256 differs; restore the file"
                )
            self._seen[place] = True
        return self._format.decode(data)

    def of(self, identity: str) -> Tensor:
        """A person's row, (D,).

        Raises:
            BadParameter: if the person is not in the corpus.
        """
        if identity not in self.places:
            raise BadParameter(f"{self.folder}: has no LoRA of {identity!r}")
        return self[self.places[identity]]

    def rows(self, places: Iterable[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Several rows, (N, D)."""
        chosen = list(places)
        rows = torch.empty(len(chosen), self.layout.size, dtype=dtype)
        for row, place in zip(rows, chosen, strict=True):
            row.copy_(self[place])
        return rows

    def iterate(self, split: Split) -> Iterator[tuple[Entry, Tensor]]:
        """Each row of a split with what the index says of it."""
        for place in self.indices(split):
            yield self.entries[place], self[place]

    def of_few(self, train_people: int) -> Corpus:
        """The same corpus with the first so many people of the split train alone; the other splits are whole.

        Raises:
            BadParameter: if there are fewer.
        """
        trained = self.indices("train")
        if not 1 <= train_people <= len(trained):
            raise BadParameter(f"{self.folder}: {train_people} training people are asked for, it has {len(trained)}")
        left_out = set(trained[train_people:])
        few = type(self)(self.folder, check=self._check)
        few.entries = [entry for place, entry in enumerate(self.entries) if place not in left_out]
        return few

    def failures(self) -> dict[str, str]:
        """People whose training failed, and why."""
        lines = [line for line in read_lines(self.folder / FAILURES) if not is_tombstone(line)]
        return {str(line["identity"]): str(line["failed"]) for line in lines}


def open_format(folder: Path, settings: dict[str, Any]) -> tuple[LoraLayout, ShardFormat]:
    """The layout and the shards' format that a corpus's settings tell.

    Raises:
        BadFile: if they tell none.
    """
    path = folder / HEADER
    try:
        layout = LoraLayout.from_json(settings["layout"], f"{path}: layout")
        dtype, rows = settings["dtype"], int(settings["rows_per_shard"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(f"{path}: lacks what a corpus needs ({error!r}); restore it") from error
    return layout, ShardFormat(folder / SHARDS, rows, layout.size, dtype, layout.digest)
