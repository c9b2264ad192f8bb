"""Adding rows to a corpus so that a kill at any moment loses at most the batch that is being trained.

A row is on the disk before the line that lists it is written. What a kill leaves beyond the last whole line is written
again, by the same training with the same seed: the bytes come out as if there had been no kill.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from torch import Tensor

from difflora.corpus.forgotten import Roster, is_tombstone
from difflora.corpus.header import begin, settings_digest, sweep
from difflora.corpus.lines import LineWriter
from difflora.corpus.reader import FAILURES, HEADER, INDEX, KIND, SHARDS, Entry, open_format
from difflora.corpus.shards import row_sha256
from difflora.corpus.splits import Split
from difflora.errors import BadParameter
from difflora.lora import LoraLayout


@dataclass(frozen=True)
class NewRow:
    """A person's LoRA that is to be added.

    Attributes:
        identity: whose it is.
        split: the person's.
        class_word: what prompts call the person.
        flat: (D,) of any floating type.
        seed: of its training.
        images: pictures it learnt from.
        loss: its training's last.
        consent: the person's record, where there is one.
    """

    identity: str
    split: Split
    class_word: str
    flat: Tensor
    seed: int
    images: int
    loss: float
    consent: dict[str, Any] | None = None


class CorpusWriter:
    """Appends to a corpus, alone.

    Args:
        folder: made if missing.
        layout: of the LoRAs.
        settings: plain values that decide a row's bytes, beside the layout.
        dtype: of the rows on disk.
        rows_per_shard: rows of a file.

    Attributes:
        done: everyone with a row or a failure, and everyone who was forgotten.

    Raises:
        BadParameter: if the folder was begun with other settings; the key is named.
        BadFile: if header, index or the last shard is damaged.
        DiffLoRAError: if another process writes it.
    """

    def __init__(
        self,
        folder: str | Path,
        layout: LoraLayout,
        settings: dict[str, Any],
        *,
        dtype: Literal["fp16", "fp32"] = "fp16",
        rows_per_shard: int = 64,
    ) -> None:
        if dtype not in ("fp16", "fp32") or rows_per_shard < 1:
            raise BadParameter(f"dtype {dtype}, {rows_per_shard} rows a shard: give fp16 or fp32, and at least 1")
        self.folder = Path(folder)
        whole = {**settings, "dtype": dtype, "rows_per_shard": rows_per_shard, "layout": layout.to_json()}
        begin(self.folder / HEADER, KIND, whole)
        self._digest = settings_digest(whole)
        _, self._format = open_format(self.folder, whole)
        with ExitStack() as opened:
            self._index = opened.enter_context(LineWriter(self.folder / INDEX))
            self._failures = opened.enter_context(LineWriter(self.folder / FAILURES))
            sweep(self.folder, self.folder / SHARDS)
            if self._index.records:
                self._format.check((len(self._index.records) - 1) // rows_per_shard)
            self._files = opened.pop_all()
        self.done = Roster(self._index.records + self._failures.records)

    def __len__(self) -> int:
        return sum(not is_tombstone(line) for line in self._index.records)

    def append(self, rows: Sequence[NewRow]) -> list[str]:
        """Writes rows, then the lines that list them.

        Returns:
            Ids of rows that are not finite in the disk's type; they are left out.

        Raises:
            BadParameter: if a person is there already or was forgotten, or a row has another size.
        """
        first, data, unfit = len(self._index.records), [], []
        entries: list[Entry] = []
        for new in rows:
            if self.done.forgot(new.identity):
                raise BadParameter(f"{self.folder}: {new.identity} was forgotten and gets no LoRA")
            if new.identity in self.done or new.identity in {entry.identity for entry in entries}:
                raise BadParameter(f"{self.folder}: has {new.identity} already; a row is never replaced")
            if new.flat.shape != (self._format.size,):
                raise BadParameter(f"{new.identity}: row is {tuple(new.flat.shape)}, not ({self._format.size},)")
            if not new.flat.to(self._format.torch_dtype).isfinite().all() or not math.isfinite(new.loss):
                unfit.append(new.identity)
                continue
            data.append(self._format.encode(new.flat))
            shard, row = divmod(first + len(entries), self._format.rows)
            entries.append(
                Entry(
                    new.identity,
                    new.split,
                    new.class_word,
                    shard,
                    row,
                    row_sha256(data[-1]),
                    new.seed,
                    self._digest,
                    new.images,
                    new.loss,
                    new.consent,
                )
            )
        if entries:
            self._format.write(first, data)
            self._index.append([entry.to_json() for entry in entries])
            for entry in entries:
                self.done.add(entry.identity)
        return unfit

    def fail(self, identity: str, reason: str) -> None:
        """Lists a person whose training failed, so that no later call tries again."""
        if identity not in self.done:
            self._failures.append([{"identity": identity, "failed": reason}])
            self.done.add(identity)

    def finish(self) -> None:
        """Seals index and failures: from now on a missing line is an error."""
        self._index.seal()
        self._failures.seal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()
