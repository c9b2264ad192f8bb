"""A linear layer's output with every sample's own LoRA added: what people call."""

# ruff: noqa: N803 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from difflora_kernels.lora_linear import op

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Scale = float | Sequence[float] | Tensor
"""One factor for all LoRAs, or one each: (K,)."""
MOST_RANK = 128


def lora_linear(
    base_out: Tensor, x: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scale: Scale = 1.0
) -> Tensor:
    """``y_i = base_out_i + scale_k * (x_i A_k^T) B_k^T`` with k = index_i: a batch under several LoRAs at once.

    Sums are float32 or wider, and equal inputs on one device give equal bits, gradients too. On a GPU, x and base_out
    are read once and y is written once; A and B may be views of flat vectors, nothing is copied or gathered.

    Args:
        base_out: the base layer's output W x (+ bias), (N, ..., m), float16, bfloat16, float32 or float64.
        x: the layer's input, (N, ..., n); its dtype may be another (autocast).
        lora_A: (K, r, n), r from 1 to 128, any strides.
        lora_B: (K, m, r), any strides.
        index: (N,) int64 on x's device: which LoRA each sample goes through, in any order. LoRAs without samples are
            fine; their gradient is 0.
        scale: alpha / rank; one number, or one for each LoRA. No gradient.

    Returns:
        (N, ..., m) in base_out's dtype. Gradients flow to base_out, x, lora_A and lora_B.

    Raises:
        ValueError: if shapes, devices or dtypes do not fit, a scale is not finite, or, on CPU, an index is none of 0
            to K - 1. A GPU is not waited for to look: there such a sample comes out as NaN.
        RuntimeError: in a backward pass with ``create_graph=True``.
    """
    _check(base_out, x, lora_A, lora_B, index)
    scales = _scales(scale, len(lora_A), x.device)
    shape = base_out.shape
    rows = math.prod(shape[1:-1])
    out, _ = op.lora_linear(
        base_out.reshape(len(x), rows, shape[-1]), x.reshape(len(x), rows, x.shape[-1]), lora_A, lora_B, index, scales
    )  # (N, T, m)
    made: Tensor = out.view(shape)
    return made


def _check(base_out: Tensor, x: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor) -> None:
    if x.ndim < 2 or base_out.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            f"base_out is {tuple(base_out.shape)} and x {tuple(x.shape)}; they must be (N, ..., m) and (N, ..., n)"
        )
    if lora_A.ndim != 3 or lora_A.shape[2] != x.shape[-1] or not len(lora_A):
        raise ValueError(f"lora_A is {tuple(lora_A.shape)}; it must be (K, r, {x.shape[-1]})")
    loras, rank, _ = lora_A.shape
    if lora_B.shape != (loras, base_out.shape[-1], rank):
        raise ValueError(f"lora_B is {tuple(lora_B.shape)}; it must be ({loras}, {base_out.shape[-1]}, {rank})")
    if not 1 <= rank <= MOST_RANK:
        raise ValueError(f"the rank is {rank}; it must be 1 to {MOST_RANK}")
    if index.shape != (len(x),) or index.dtype != torch.int64:
        raise ValueError(f"index is {index.dtype} {tuple(index.shape)}; it must be int64, ({len(x)},)")
    for name, tensor in (("base_out", base_out), ("x", x), ("lora_A", lora_A), ("lora_B", lora_B)):
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} is {tensor.dtype}; it must be float16, bfloat16, float32 or float64")
    for name, tensor in (("base_out", base_out), ("lora_A", lora_A), ("lora_B", lora_B), ("index", index)):
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device} and x on {x.device}; move it there")


def _scales(scale: Scale, loras: int, device: torch.device) -> Tensor:
    """One scale a LoRA, (K,) float32, made on the device: a copy from the host could not be captured in a graph."""
    if isinstance(scale, Tensor):
        if scale.requires_grad and torch.is_grad_enabled():
            raise ValueError("scale requires a gradient, and only base_out, x, lora_A and lora_B get one; detach it")
        if scale.shape != (loras,):
            raise ValueError(f"scale is {tuple(scale.shape)} for {loras} LoRAs; give one number, or one each")
        return scale.to(device, torch.float32)
    values = [scale] if isinstance(scale, int | float) else list(scale)
    if not all(-math.inf < value < math.inf for value in values):  # as compilers, unlike math.isfinite, can trace it
        raise ValueError(f"scale is {scale}; it must be finite")
    if isinstance(scale, int | float):
        return torch.full((loras,), scale, dtype=torch.float32, device=device)
    if len(values) != loras:
        raise ValueError(f"{len(values)} scales for {loras} LoRAs; give one number, or one each")
    return torch.cat([torch.full((1,), value, dtype=torch.float32, device=device) for value in values])
