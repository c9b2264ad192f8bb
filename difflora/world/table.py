"""A batch of things described by continuous and categorical attributes, as two tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Table:
    """N rows of T continuous attributes in [0, 1] and K categorical ones.

    Attributes:
        continuous: (N, T) float32 in [0, 1], columns named by ``CONTINUOUS``.
        categorical: (N, K) int64, columns named by the keys of ``CATEGORICAL``.
    """

    CONTINUOUS: ClassVar[tuple[str, ...]] = ()
    CATEGORICAL: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    continuous: Tensor
    categorical: Tensor

    def __post_init__(self) -> None:
        """Checks that the shapes belong to this kind of table."""
        rows = len(self.continuous)
        if self.continuous.shape != (rows, len(self.CONTINUOUS)):
            raise ValueError(f"continuous is {tuple(self.continuous.shape)}, not ({rows}, {len(self.CONTINUOUS)})")
        if self.categorical.shape != (rows, len(self.CATEGORICAL)):
            raise ValueError(f"categorical is {tuple(self.categorical.shape)}, not ({rows}, {len(self.CATEGORICAL)})")

    def __len__(self) -> int:
        return len(self.continuous)

    def __getitem__(self, rows: slice | Tensor | list[int]) -> Self:
        return type(self)(self.continuous[rows], self.categorical[rows])

    def value(self, name: str) -> Tensor:
        """A continuous column, (N,) float32 in [0, 1]."""
        return self.continuous[:, self.CONTINUOUS.index(name)]

    def index(self, name: str) -> Tensor:
        """A categorical column as class indices, (N,) int64."""
        return self.categorical[:, list(self.CATEGORICAL).index(name)]

    def names(self, name: str) -> list[str]:
        """A categorical column as words, N of them."""
        words = self.CATEGORICAL[name]
        return [words[i] for i in self.index(name).tolist()]

    def replace(self, **columns: Tensor | str | float) -> Self:
        """A copy with columns set: a word or index for a categorical one, a number for a continuous one."""
        continuous, categorical = self.continuous.clone(), self.categorical.clone()
        for name, value in columns.items():
            if name in self.CATEGORICAL:
                index = self.CATEGORICAL[name].index(value) if isinstance(value, str) else value
                categorical[:, list(self.CATEGORICAL).index(name)] = torch.as_tensor(index)
            elif isinstance(value, str):
                raise ValueError(f"{name} is not categorical: {value!r} is no value for it")
            else:
                continuous[:, self.CONTINUOUS.index(name)] = torch.as_tensor(value, dtype=torch.float32)
        return type(self)(continuous, categorical)

    @classmethod
    def concatenate(cls, tables: list[Self]) -> Self:
        """All rows of several tables, in order."""
        return cls(
            torch.cat([table.continuous for table in tables]), torch.cat([table.categorical for table in tables])
        )
