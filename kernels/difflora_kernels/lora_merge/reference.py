"""The LoRA merge in torch: what the kernel is compared with, and the path of the CPU.

Each matrix is merged in strips of rows in one block of memory that all strips use: asking the system for fresh memory
takes longer than the sums. W is read once and W' written once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from difflora_kernels.lora_merge.layout import FlatLayout, Statistics

STRIP = 2**21
"""Elements of a strip on CPU; other devices take a matrix at once."""


class LoopMerge:
    """One matrix after the other.

    Args:
        weights: W of each matrix, (m, ...), any floating dtype and strides.
        out: W' of each matrix, of the same shapes and dtypes.
        layout: of the flat vector.
        indices: the matrices' places in the layout.
    """

    def __init__(
        self, weights: Sequence[Tensor], out: Sequence[Tensor], layout: FlatLayout, indices: Sequence[int]
    ) -> None:
        self.pairs = list(zip(weights, out, strict=True))
        self.layout, self.indices = layout, indices
        self._scratch: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def __call__(self, flat: Tensor, scales: Tensor, statistics: Statistics, bad: Tensor) -> None:
        """Writes every W'.

        Args:
            flat: (L, D), any floating dtype.
            scales: (L,) float32.
            statistics: what un-normalises ``flat``.
            bad: (K,) int32, becomes 1 where a number of W' is not finite.
        """
        for index, (weight, out) in zip(self.indices, self.pairs, strict=True):
            dtype = torch.promote_types(weight.dtype, torch.float32)
            left, right = factors(flat, self.layout, index, statistics, dtype)  # (L, m, r), (L, n, r)
            left = left * scales.to(dtype)[:, None, None]
            left, right = (each.movedim(0, 1).flatten(1) for each in (left, right))  # (m, L r), (n, L r)
            finite = merge_matrix(weight, out, left, right.T, self._room(weight, dtype))
            bad[index] = torch.where(finite, bad[index], 1)

    def _room(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Memory for the largest strip of any matrix, made when first asked for."""
        key = weight.device, dtype
        if key not in self._scratch:
            most = max(own.numel() for own, _ in self.pairs)
            widest = max(own[0].numel() for own, _ in self.pairs)
            size = max(widest, min(STRIP, most)) if weight.device.type == "cpu" else most
            self._scratch[key] = torch.empty(size, dtype=dtype, device=weight.device)
        return self._scratch[key]


def factors(
    flat: Tensor, layout: FlatLayout, index: int, statistics: Statistics, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """B (L, m, r) and the transpose of A (L, n, r) of one matrix, un-normalised."""
    spread = _of_matrix(statistics.spread, layout, index)
    mean = _of_matrix(statistics.mean, layout, index)
    found = []
    for part, value in enumerate(layout.tensors(flat, index)):
        value = value.to(dtype)
        if spread is not None:
            value = value * spread[part]
        found.append(value if mean is None else value + mean[part])
    return found[0], found[1]


def merge_matrix(weight: Tensor, out: Tensor, left: Tensor, right: Tensor, room: Tensor) -> Tensor:
    """``out = weight + left right``, rounded once; whether all of it is finite, () bool.

    Args:
        weight: (m, ...).
        out: (m, ...), may be ``weight``.
        left: (m, k), float32 or float64.
        right: (k, n), the same dtype.
        room: memory to compute in, a row at least, the same dtype.
    """
    columns = right.shape[1]
    rows = min(len(weight), room.numel() // columns)
    extremes: list[Tensor] = []
    for start in range(0, len(weight), rows):
        strip = weight[start : start + rows]
        made = room[: strip.numel()].view(len(strip), columns)
        made.copy_(strip.flatten(1)).addmm_(left[start : start + rows], right)
        out[start : start + rows].copy_(made.view(strip.shape))
        extremes += torch.aminmax(made)  # one pass; NaN stays NaN
    return (torch.stack(extremes).abs() < _overflow(out.dtype)).all()


def _overflow(dtype: torch.dtype) -> float:
    """The least number that rounds to infinity."""
    about = torch.finfo(dtype)
    if dtype not in (torch.float16, torch.bfloat16):
        return math.inf
    return float(about.max) + 2.0 ** math.floor(math.log2(about.max)) * float(about.eps) / 2


def _of_matrix(values: Tensor | None, layout: FlatLayout, index: int) -> tuple[Tensor, Tensor] | None:
    """Statistics of one matrix that multiply B and the transpose of A."""
    if values is None:
        return None
    if values.shape == (layout.size,):
        return layout.tensors(values, index)
    return values[2 * index], values[2 * index + 1]
