"""The LoRAs of a corpus's split as training wants them: in canonical form if asked, in memory where they fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from difflora.corpus.reader import Corpus
from difflora.corpus.splits import Split
from difflora.errors import BadParameter
from difflora.lora import LoraLayout, canonical

_KEPT_BYTES = 2 * 2**30
_AT_ONCE = 64


class LoraRows:
    """Flat LoRAs of a split, in the corpus's order; going through them gives batches (N, D) float32.

    Args:
        corpus: where they are.
        split: whose.
        canonical_form: whether each is brought to canonical form.

    Attributes:
        names: the people.

    Raises:
        BadParameter: if the split is empty.
        BadFile: if a row was changed.
    """

    def __init__(self, corpus: Corpus, split: Split, *, canonical_form: bool = False) -> None:
        self._corpus, self._canonical = corpus, canonical_form
        self._places = corpus.indices(split)
        if not self._places:
            raise BadParameter(f"{corpus.folder}: has nobody in the split {split}; make more people")
        self.names = [corpus.entries[place].identity for place in self._places]
        self._kept: Tensor | None = None
        if 4 * corpus.layout.size * len(self._places) <= _KEPT_BYTES:
            self._kept = torch.cat(list(self))  # (N, D)

    @property
    def layout(self) -> LoraLayout:
        """What the numbers are."""
        return self._corpus.layout

    @cached_property
    def digest(self) -> str:
        """The sha256 of which rows these are and in what form."""
        digest = hashlib.sha256(f"{self._corpus.digest} {self._canonical}\n".encode())
        for place in self._places:
            digest.update(f"{self._corpus.entries[place].sha256}\n".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        """The number of people."""
        return len(self._places)

    def __iter__(self) -> Iterator[Tensor]:
        """Batches of all rows in turn, on the CPU."""
        for start in range(0, len(self._places), _AT_ONCE):
            yield self.take(range(start, min(start + _AT_ONCE, len(self._places))))

    def take(self, places: Sequence[int] | Tensor) -> Tensor:
        """The rows at some places of the split, (N, D) float32."""
        chosen = places.tolist() if isinstance(places, Tensor) else list(places)
        if self._kept is not None:
            return self._kept[chosen]
        rows = self._corpus.rows([self._places[place] for place in chosen])  # (N, D)
        return canonical(rows, self.layout) if self._canonical else rows
