"""The WP loss as an operator of torch: it chooses the path, and has an autograd formula and shapes for compilers."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from difflora_kernels.backend import backend, takes_triton
from difflora_kernels.wp_loss import compiled, reference
from difflora_kernels.wp_loss.problem import Problem


@torch.library.custom_op("difflora_kernels::wp_loss", mutates_args=())
def wp_loss(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    wp_weight: float,
    reconstruction: str,
    reduction: str,
    with_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, reconstruction loss and equation 2, each of the reduction's shape; the gradient or an empty tensor."""
    path, problem, x_hat, x, weights, totals = _prepare(x_hat, x, weights, wp_weight, reconstruction, reduction)
    shape = _value_shape(x, reduction)
    if problem.numel == 0:
        grad = torch.empty(_grad_shape(x_hat, with_grad), dtype=x_hat.dtype, device=x_hat.device)
        loss, reconstruction_loss, wp = (torch.zeros(shape, dtype=_value_dtype(x_hat, x), device=x.device),) * 3
        return loss, reconstruction_loss.clone(), wp.clone(), grad
    *values, grad = path.forward(x_hat, x, weights, totals, with_grad, problem)
    loss, reconstruction_loss, wp = (value.view(shape) for value in values)
    return loss, reconstruction_loss, wp, x_hat.new_empty(0) if grad is None else grad.view(x_hat.shape)


@wp_loss.register_fake
def _(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    wp_weight: float,
    reconstruction: str,
    reduction: str,
    with_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape, dtype = _value_shape(x, reduction), _value_dtype(x_hat, x)
    loss, reconstruction_loss, wp = (torch.empty(shape, dtype=dtype, device=x.device) for _ in range(3))
    grad = torch.empty(_grad_shape(x_hat, with_grad), dtype=x_hat.dtype, device=x_hat.device)
    return loss, reconstruction_loss, wp, grad


@torch.library.custom_op("difflora_kernels::wp_loss_backward", mutates_args=())
def wp_loss_backward(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    upstream: Tensor,
    wp_weight: float,
    reconstruction: str,
    reduction: str,
) -> Tensor:
    """The gradient in x_hat, from the inputs: what float16 and second backward passes need."""
    path, problem, x_hat, x, weights, totals = _prepare(x_hat, x, weights, wp_weight, reconstruction, reduction)
    if problem.numel == 0:
        return torch.empty(x_hat.shape, dtype=x_hat.dtype, device=x_hat.device)
    grad: Tensor = path.backward(x_hat, x, weights, totals, upstream.reshape(-1).contiguous(), problem)
    return grad.view(x_hat.shape)


@wp_loss_backward.register_fake
def _(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    upstream: Tensor,
    wp_weight: float,
    reconstruction: str,
    reduction: str,
) -> Tensor:
    return torch.empty(x_hat.shape, dtype=x_hat.dtype, device=x_hat.device)


@torch.library.custom_op("difflora_kernels::scale_", mutates_args=("grad",))
def scale_(grad: Tensor, factors: Tensor) -> None:
    """Multiplies each of G equal parts of a contiguous tensor by its factor, in place; free where all are 1."""
    if grad.numel():
        path = _path(grad)
        (reference if path is compiled else path).scale_(grad, factors.reshape(-1).contiguous())


@scale_.register_fake
def _(grad: Tensor, factors: Tensor) -> None:
    return None


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x_hat, x, weights, *ctx.settings, with_grad = inputs
    _, reconstruction_loss, wp, grad = output
    ctx.mark_non_differentiable(reconstruction_loss, wp, grad)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x_hat, x, weights)
    ctx.grad = grad if with_grad else None


def _backward(ctx: Any, upstream: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "weight_preserved_loss has no second derivative (create_graph=True); write the loss in plain torch there"
        )
    grad, ctx.grad = ctx.grad, None
    if upstream is None or not ctx.needs_input_grad[0]:
        return (None,) * 7
    if grad is None:
        # The first backward pass gave its gradient away, and whoever has it may have changed it.
        grad = wp_loss_backward(*ctx.saved_tensors, upstream, *ctx.settings)
    else:
        scale_(grad, upstream)
    return grad, None, None, None, None, None, None


wp_loss.register_autograd(_backward, setup_context=_setup_context)


def _prepare(
    x_hat: Tensor, x: Tensor, weights: Tensor | None, wp_weight: float, reconstruction: str, reduction: str
) -> tuple[ModuleType, Problem, Tensor, Tensor, Tensor | None, Tensor | None]:
    """The path, the problem, the inputs without gaps, and what means divide by, (G,)."""
    shape = None if weights is None else weights.shape
    problem = Problem.of(x.shape, shape, wp_weight, reconstruction, reduction)
    weights = None if weights is None else weights.contiguous()
    totals = problem.totals(weights) if weights is not None and reduction != "sum" and problem.numel else None
    return _path(x_hat, x), problem, x_hat.contiguous(), x.contiguous(), weights, totals


def _path(*tensors: Tensor) -> ModuleType:
    """Triton's launches, the compiled formula or the reference; float64 is for checks, and never Triton's."""
    device, numel = tensors[0].device, tensors[0].numel()
    if takes_triton(device) and all(tensor.dtype != torch.float64 for tensor in tensors):
        from difflora_kernels.wp_loss import launch

        return launch
    return compiled if backend() == "auto" and compiled.serves(device, numel) else reference


def _value_shape(x: Tensor, reduction: str) -> tuple[int, ...]:
    return (x.shape[0],) if reduction == "sample" else ()


def _value_dtype(x_hat: Tensor, x: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(x_hat.dtype, x.dtype), torch.float32)


def _grad_shape(x_hat: Tensor, with_grad: bool) -> tuple[int, ...]:
    return tuple(x_hat.shape) if with_grad else (0,)
