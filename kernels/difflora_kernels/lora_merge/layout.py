"""Where the tensors of a LoRA lie in its flat vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class FlatLayout:
    """The matrices that a LoRA changes, in the order of its flat vector (paper, section 3.2).

    For each matrix (m, n) the vector holds B, (m, r) row by row, then the transpose of A, (n, r) row by row.

    Attributes:
        shapes: (m, n) of each of the K matrices; n of a convolution is in_channels * kernel_height * kernel_width.
        rank: r.

    Raises:
        ValueError: if there is no matrix or a size is below 1.
    """

    shapes: tuple[tuple[int, int], ...]
    rank: int

    def __post_init__(self) -> None:
        if not self.shapes or self.rank < 1 or min(min(shape) for shape in self.shapes) < 1:
            raise ValueError(f"flat layout: rank {self.rank}, shapes {self.shapes}; all must be 1 or more")

    @cached_property
    def starts(self) -> tuple[tuple[int, int], ...]:
        """Where B and where the transpose of A of each matrix begin."""
        found, start = [], 0
        for m, n in self.shapes:
            found.append((start, start + m * self.rank))
            start += (m + n) * self.rank
        return tuple(found)

    @cached_property
    def size(self) -> int:
        """D: how many numbers a flat vector holds."""
        return sum(m + n for m, n in self.shapes) * self.rank

    def tensors(self, flat: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """B (..., m, r) and the transpose of A (..., n, r) of one matrix, views of ``flat`` (..., D)."""
        (m, n), (start, middle) = self.shapes[index], self.starts[index]
        stop = middle + n * self.rank
        return flat[..., start:middle].unflatten(-1, (m, self.rank)), flat[..., middle:stop].unflatten(
            -1, (n, self.rank)
        )


@dataclass(frozen=True, eq=False)
class Statistics:
    """What un-normalises a flat vector: ``flat * spread + mean``.

    Attributes:
        mean: float32: (D,), an element each; (2 K,), one for each B and one for each A, in the vector's order; or None.
        spread: the same.
    """

    mean: Tensor | None = None
    spread: Tensor | None = None

    def check(self, layout: FlatLayout, device: torch.device) -> None:
        """Raises ValueError where a tensor does not fit the layout or the device."""
        for name, value in (("mean", self.mean), ("spread", self.spread)):
            if value is None:
                continue
            if value.shape not in ((layout.size,), (2 * len(layout.shapes),)) or value.dtype != torch.float32:
                raise ValueError(
                    f"{name} is {value.dtype} {tuple(value.shape)}; it must be float32, "
                    f"({layout.size},) or ({2 * len(layout.shapes)},)"
                )
            if value.device != device:
                raise ValueError(f"{name} is on {value.device} and flat on {device}; move it there")
