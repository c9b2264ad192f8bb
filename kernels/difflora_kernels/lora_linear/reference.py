"""The linear layer with many LoRAs by torch's bmm: what the kernel is compared with, and the path of the CPU."""

# ruff: noqa: N803, N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import torch
from torch import Tensor


def forward(
    base_out: Tensor, x: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor]:
    """The output (N, T, m), and ``x A^T`` (N, T, r) in float32 or float64."""
    x, down, up, factors = _gathered(x, lora_A, lora_B, index, scales)
    low = torch.bmm(x, down.transpose(1, 2))  # (N, T, r)
    scaled = (low * factors).to(x.dtype)
    out = torch.baddbmm(base_out.to(x.dtype), scaled, up.transpose(1, 2))  # (N, T, m)
    return out.to(base_out.dtype), low.to(factors.dtype)


def backward(
    grad: Tensor, x: Tensor, low: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scales: Tensor, weights: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients in x, A and B; the last two only where ``weights`` asks for them."""
    dtype = x.dtype
    x, down, up, factors = _gathered(x, lora_A, lora_B, index, scales)
    grad = grad.to(x.dtype)
    grad_low = (torch.bmm(grad, up) * factors).to(x.dtype)  # (N, T, r)
    grad_x = torch.bmm(grad_low, down).to(dtype)  # (N, T, n)
    if not weights:
        return grad_x, None, None
    grad_A = torch.bmm(grad_low.transpose(1, 2), x)  # (N, r, n)
    grad_B = torch.bmm(grad.transpose(1, 2), (low * factors).to(x.dtype))  # (N, m, r)
    return grad_x, _by_lora(grad_A, index, lora_A), _by_lora(grad_B, index, lora_B)


def _gathered(
    x: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, and each sample's A (N, r, n), B (N, m, r) and scale (N, 1, 1), the first three in one dtype."""
    dtype = torch.promote_types(torch.promote_types(x.dtype, lora_A.dtype), lora_B.dtype)
    factors = scales[index, None, None].to(torch.promote_types(dtype, torch.float32))
    return x.to(dtype), lora_A[index].to(dtype), lora_B[index].to(dtype), factors


def _by_lora(parts: Tensor, index: Tensor, like: Tensor) -> Tensor:
    """Sums over the samples of each LoRA, (K, ...), in one order: each call adds one sample."""
    total = torch.zeros(like.shape, dtype=torch.promote_types(parts.dtype, torch.float32), device=like.device)
    for place, part in zip(index.split(1), parts.to(total.dtype).split(1), strict=True):
        total.index_add_(0, place, part)
    return total.to(like.dtype)
