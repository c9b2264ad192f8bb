"""Launches of the Triton merge kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton.language as tl
from torch import Tensor

from difflora_kernels.backend import on_device
from difflora_kernels.lora_merge.kernel import lora_merge_kernel
from difflora_kernels.lora_merge.layout import FlatLayout, Statistics
from difflora_kernels.lora_merge.tables import is_aligned, matrix_table, tile_table

DTYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


@dataclass(frozen=True)
class LaunchConfig:
    """How the work is cut.

    Attributes:
        rows: of a tile, a multiple of block_m. A program walks down them, and its part of A stays where it is.
        block_m: rows that are made at a time; a power of 2, 16 or more.
        block_n: columns of a tile, the same.
        block_r: ranks that tl.dot takes at a time, the same.
        warps: of a program, 32 threads each.
        stages: loads of W that are on their way at a time.
        largest_outer: the largest rank that is merged by outer products; above it tl.dot serves.
    """

    rows: int = 256
    block_m: int = 16
    block_n: int = 128
    block_r: int = 16
    warps: int = 4
    stages: int = 3
    largest_outer: int = 8


CONFIG = LaunchConfig()


class KernelMerge:
    """Matrices of one dtype on one device, with tables made once; every call is one launch.

    Args:
        weights: W of each matrix, contiguous, one of ``DTYPES``.
        out: W' of each matrix, the same.
        layout: of the flat vector.
        indices: the matrices' places in the layout.
    """

    def __init__(
        self, weights: Sequence[Tensor], out: Sequence[Tensor], layout: FlatLayout, indices: Sequence[int]
    ) -> None:
        self.kept = [*weights, *out]  # the table has their addresses
        self.layout, self.dtype, self.device = layout, weights[0].dtype, weights[0].device
        matrices = matrix_table(weights, out, layout, indices)
        self.aligned = is_aligned(matrices, layout)
        tiles = tile_table([layout.shapes[index] for index in indices], CONFIG.rows, CONFIG.block_n)
        self.matrices, self.tiles = matrices.to(self.device), tiles.to(self.device)

    def __call__(self, flat: Tensor, scales: Tensor, statistics: Statistics, bad: Tensor) -> None:
        """Writes every W'.

        Args:
            flat: (L, D), any floating dtype.
            scales: (L,) float32.
            statistics: what un-normalises ``flat``.
            bad: (K,) int32, becomes 1 where a number of W' is not finite.
        """
        flat = flat.float() if flat.dtype == torch.float64 else flat
        flat = flat.contiguous()
        mean, spread = statistics.mean, statistics.spread
        dot = self.layout.rank > CONFIG.largest_outer
        block_r = CONFIG.block_r if dot else _next_power_of_2(self.layout.rank)
        # Full float32 for float32 weights. Three TF32 products come within 2^-21 of it, far below half precision.
        precision = "ieee" if self.dtype == torch.float32 else "tf32x3"
        held = len(flat) == 1 and self.layout.rank <= block_r
        with on_device(self.device):
            lora_merge_kernel[(len(self.tiles),)](
                self.tiles,
                self.matrices,
                flat,
                scales.contiguous(),
                None if mean is None else mean.contiguous(),
                None if spread is None else spread.contiguous(),
                bad,
                len(flat),
                self.layout.size,
                DTYPE=DTYPES[self.dtype],
                RANK=self.layout.rank,
                MEAN_EACH=mean is not None and mean.shape == (self.layout.size,),
                SPREAD_EACH=spread is not None and spread.shape == (self.layout.size,),
                ALIGNED=self.aligned,
                HELD=held,
                DOT=dot,
                PRECISION=precision,
                ROWS=CONFIG.rows,
                BLOCK_M=CONFIG.block_m,
                BLOCK_N=CONFIG.block_n,
                BLOCK_R=block_r,
                STAGES=CONFIG.stages if held else 1,
                num_warps=CONFIG.warps,
            )


def _next_power_of_2(value: int) -> int:
    return 1 << (value - 1).bit_length()
