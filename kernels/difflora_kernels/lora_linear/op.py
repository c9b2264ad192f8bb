"""The linear layer with many LoRAs as an operator of torch, with an autograd formula and shapes for compilers."""

# ruff: noqa: N803, N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from difflora_kernels.backend import takes_triton
from difflora_kernels.lora_linear import reference


@torch.library.custom_op("difflora_kernels::lora_linear", mutates_args=())
def lora_linear(
    base_out: Tensor, x: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor]:
    """The output (N, T, m), and ``x A^T`` (N, T, r) for the backward pass, in float32 or float64."""
    _check_index(index, len(lora_A))
    if x.numel() == 0 or base_out.numel() == 0:
        return base_out.clone(memory_format=torch.contiguous_format), _low(x, lora_A).zero_()
    path = _path(base_out, x, lora_A, lora_B)
    out, low = path.forward(base_out.contiguous(), x.contiguous(), lora_A, lora_B, index.contiguous(), scales)
    return out, low.to(_low_dtype(x, lora_A))


@lora_linear.register_fake
def _(
    base_out: Tensor, x: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty(base_out.shape, dtype=base_out.dtype, device=base_out.device), _low(x, lora_A)


@torch.library.custom_op("difflora_kernels::lora_linear_backward", mutates_args=())
def lora_linear_backward(
    grad: Tensor, x: Tensor, low: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scales: Tensor, weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in x, A and B; the last two empty unless ``weights`` asks for them."""
    grads = _empty(x, lora_A, lora_B, weights)
    if x.numel() == 0 or grad.numel() == 0:
        return grads[0].zero_(), grads[1].zero_(), grads[2].zero_()
    path = _path(grad, x, lora_A, lora_B)
    found = path.backward(grad.contiguous(), x.contiguous(), low, lora_A, lora_B, index.contiguous(), scales, weights)
    grad_x, grad_A, grad_B = (empty if made is None else made for empty, made in zip(grads, found, strict=True))
    return grad_x, grad_A.contiguous(), grad_B.contiguous()


@lora_linear_backward.register_fake
def _(
    grad: Tensor, x: Tensor, low: Tensor, lora_A: Tensor, lora_B: Tensor, index: Tensor, scales: Tensor, weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(x, lora_A, lora_B, weights)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, x, lora_A, lora_B, index, scales = inputs
    _, low = output
    ctx.mark_non_differentiable(low)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, low, lora_A, lora_B, index, scales)


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError("lora_linear has no second derivative (create_graph=True); write it in plain torch there")
    needs = ctx.needs_input_grad
    if grad is None or not any(needs[:4]):
        return (None,) * 6
    if not any(needs[1:4]):
        return grad, None, None, None, None, None
    found = lora_linear_backward(grad, *ctx.saved_tensors, needs[2] or needs[3])
    grads = (each if needed else None for each, needed in zip(found, needs[1:4], strict=True))
    return (grad if needs[0] else None, *grads, None, None)


lora_linear.register_autograd(_backward, setup_context=_setup_context)


def _path(*tensors: Tensor) -> ModuleType:
    """Triton's launches or the reference; float64 is for checks, and never Triton's."""
    if takes_triton(tensors[0].device) and all(tensor.dtype != torch.float64 for tensor in tensors):
        from difflora_kernels.lora_linear import launch

        return launch
    return reference


def _check_index(index: Tensor, loras: int) -> None:
    """Raises ValueError where a sample's LoRA is not there; a GPU's index is not looked at, which would wait."""
    if index.device.type != "cpu" or not len(index):
        return
    least, most = int(index.min()), int(index.max())
    if least < 0 or most >= loras:
        raise ValueError(f"index goes from {least} to {most}, and there are {loras} LoRAs: 0 to {loras - 1}")


def _low_dtype(x: Tensor, lora_A: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(x.dtype, lora_A.dtype), torch.float32)


def _low(x: Tensor, lora_A: Tensor) -> Tensor:
    return torch.empty(*x.shape[:2], lora_A.shape[1], dtype=_low_dtype(x, lora_A), device=x.device)


def _empty(x: Tensor, lora_A: Tensor, lora_B: Tensor, weights: bool) -> tuple[Tensor, Tensor, Tensor]:
    def made(like: Tensor, wanted: bool) -> Tensor:
        return torch.empty(like.shape if wanted else (0,), dtype=like.dtype, device=like.device)

    return made(x, True), made(lora_A, weights), made(lora_B, weights)
