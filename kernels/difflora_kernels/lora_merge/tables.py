"""Tables for the merge kernel: which tile a program makes, and where each matrix lies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from difflora_kernels.lora_merge.layout import FlatLayout


def tile_table(shapes: Sequence[tuple[int, int]], block_m: int, block_n: int) -> Tensor:
    """(tiles, 3) int32 on CPU: matrix, first row, first column; tiles of a matrix lie side by side, row by row."""
    down = torch.tensor([-(-m // block_m) for m, _ in shapes])
    across = torch.tensor([-(-n // block_n) for _, n in shapes])
    counts = down * across
    matrix = torch.repeat_interleave(torch.arange(len(shapes)), counts)  # (tiles,)
    place = torch.arange(len(matrix)) - (counts.cumsum(0) - counts)[matrix]
    row, column = place // across[matrix] * block_m, place % across[matrix] * block_n
    return torch.stack([matrix, row, column], dim=1).int()


def matrix_table(
    weights: Sequence[Tensor], out: Sequence[Tensor], layout: FlatLayout, indices: Sequence[int]
) -> Tensor:
    """(matrices, 7) int64 on CPU: addresses of W and W', m, n, starts of B and the transpose of A, place in the layout.

    Args:
        weights: W of each matrix.
        out: W' of each matrix.
        layout: of the flat vector.
        indices: the matrices' places in the layout.
    """
    rows = [
        (weight.data_ptr(), made.data_ptr(), *layout.shapes[index], *layout.starts[index], index)
        for weight, made, index in zip(weights, out, indices, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.int64)


def is_aligned(table: Tensor, layout: FlatLayout) -> bool:
    """Whether each address, row length and start, and the vector's length, are multiples of 16."""
    return layout.size % 16 == 0 and bool((table[:, [0, 1, 3, 4, 5]] % 16 == 0).all())
