"""Launches of the Triton kernels. Sizes depend on shapes and device alone, so that equal inputs give equal bits."""

# ruff: noqa: N803, N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difflora_kernels.backend import on_device, processors
from difflora_kernels.lora_linear.kernel import lora_grad_kernel, lora_product_kernel


@dataclass(frozen=True)
class LaunchConfig:
    """How the work is cut; all blocks are powers of 2, 16 or more.

    Attributes:
        block_t: rows of a sample that a program takes at a time.
        block_c: columns that are summed over at a time.
        block_m: columns of the output that are made at a time.
        warps: of a program, 32 threads each.
        programs: wanted for one multiprocessor; fewer rows than that share out their columns.
    """

    block_t: int = 64
    block_c: int = 64
    block_m: int = 64
    warps: int = 4
    programs: int = 4

    def parts(self, programs: int, most: int, device: torch.device) -> int:
        """Into how many parts work is cut that has so many programs already and falls into ``most`` pieces."""
        return max(1, min(-(-processors(device) * self.programs // programs), most))


CONFIG = LaunchConfig()
_LARGE_RANK = LaunchConfig(block_t=16, block_c=32, block_m=32)
"""Of ranks above 32, whose factors' tiles are as wide as the rank: larger ones spill registers."""


def config(rank: int) -> LaunchConfig:
    """How work is cut at a rank."""
    return CONFIG if rank <= 32 else _LARGE_RANK


def forward(
    base_out: Tensor, x: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor]:
    """The output (N, T, m), and ``x A^T`` (N, T, r) in float32."""
    return _product(x, lora_A, lora_B, base_out, index, scales, base_out.dtype)


def backward(
    grad: Tensor, x: Tensor, low: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scales: Tensor, weights: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients in x, A and B; the last two only where ``weights`` asks for them."""
    grad_x, grad_low = _product(grad, lora_B.transpose(1, 2), lora_A.transpose(1, 2), None, index, scales, x.dtype)
    if not weights:
        return grad_x, None, None
    ordered, order = index.sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(len(lora_A) + 1, device=index.device))
    grad_A = factor_gradient(x, grad_low, order, starts, scales)  # (K, n, r)
    grad_B = factor_gradient(grad, low, order, starts, scales)  # (K, m, r)
    return grad_x, grad_A.transpose(1, 2).to(lora_A.dtype), grad_B.to(lora_B.dtype)


def _product(
    value: Tensor,
    down: Tensor,
    up: Tensor,
    base: Tensor | None,
    index: Tensor,
    scales: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """``base + scale * (value down^T) up^T``, (N, T, M), and ``value down^T``, (N, T, r) float32."""
    samples, length, columns = value.shape
    rank, width = down.shape[1], up.shape[1]
    cut = config(rank)
    out = torch.empty(samples, length, width, dtype=dtype, device=value.device)
    low = torch.empty(samples, length, rank, dtype=torch.float32, device=value.device)
    programs = samples * -(-length // cut.block_t)
    parts = cut.parts(programs, -(-width // cut.block_m), value.device)
    with on_device(value.device):
        lora_product_kernel[(programs, parts)](
            value,
            down,
            up,
            base,
            index,
            scales,
            low,
            out,
            length,
            columns,
            width,
            len(down),
            *down.stride(),
            *up.stride(),
            RANK=rank,
            PRECISION="tf32" if _half(value, down) else _precision(value, down),
            LOW_PRECISION=_precision(value, up),
            BLOCK_T=cut.block_t,
            BLOCK_C=cut.block_c,
            BLOCK_M=cut.block_m,
            BLOCK_R=_block_r(rank),
            num_warps=cut.warps,
        )
    return out, low


def factor_gradient(wide: Tensor, low: Tensor, order: Tensor, starts: Tensor, scales: Tensor) -> Tensor:
    """``scale * sum of wide^T low`` over each LoRA's rows, (K, C, r) float32."""
    samples, length, columns = wide.shape
    loras, rank = len(scales), low.shape[2]
    cut = config(rank)
    across = -(-columns // cut.block_c)
    parts = cut.parts(loras * across, samples * -(-length // cut.block_t), wide.device)
    partials = torch.empty(parts, loras, columns, rank, dtype=torch.float32, device=wide.device)
    with on_device(wide.device):
        lora_grad_kernel[(loras * parts, across)](
            wide,
            low,
            order,
            starts,
            partials,
            length,
            columns,
            parts,
            RANK=rank,
            PRECISION=_precision(wide, wide),
            BLOCK_T=cut.block_t,
            BLOCK_C=cut.block_c,
            BLOCK_R=_block_r(rank),
            num_warps=cut.warps,
        )
    return add_parts(scales, partials)


def add_parts(scales: Tensor, partials: Tensor) -> Tensor:
    """``scale * sum of the parts``, (P, K, C, r) -> (K, C, r), always in one order."""
    return scales[:, None, None] * partials.sum(0)


def _half(*tensors: Tensor) -> bool:
    return all(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in tensors)


def _precision(*tensors: Tensor) -> str:
    """Full float32 where inputs are; three TF32 products come within 2^-21 of it, far below half precision."""
    return "tf32x3" if _half(*tensors) else "ieee"


def _block_r(rank: int) -> int:
    return max(16, 1 << (rank - 1).bit_length())
