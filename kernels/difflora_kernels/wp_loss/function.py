"""The weight-preserving loss of the LoRA autoencoder (paper, section 3.2): what people call."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from difflora_kernels.wp_loss.op import wp_loss
from difflora_kernels.wp_loss.problem import RECONSTRUCTIONS, REDUCTIONS

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class LossTerms(NamedTuple):
    """A loss and its parts, float32 (float64 for float64 inputs); the parts are for logs and carry no gradient.

    Attributes:
        loss: ``reconstruction + wp_weight * weight_preserved``.
        reconstruction: mean squared or mean absolute difference.
        weight_preserved: equation 2.
    """

    loss: Tensor
    reconstruction: Tensor
    weight_preserved: Tensor


def weight_preserved_loss(
    x_hat: Tensor,
    x: Tensor,
    *,
    wp_weight: float = 1.0,
    reconstruction: str = "mse",
    weights: Tensor | None = None,
    reduction: str = "mean",
) -> LossTerms:
    """Reconstruction loss plus equation 2: ``(1/n) sum abs(x_i) * abs(x_i - x_hat_i)``.

    Values and gradient come from one pass: x and x_hat are read once, the gradient is written once. A backward pass
    that brings the factor 1 then has nothing to do; another factor costs a pass over the gradient. The exception is a
    float16 ``x_hat``, whose gradient is made in the backward pass, where the factor of a loss scaler is known: divided
    by n first, it would be 0 in float16. All sums are float32 or wider, and equal inputs on one device give equal bits.

    Args:
        x_hat: what the autoencoder gives, (..., D), float16, bfloat16, float32 or float64; need not be contiguous.
        x: what it should give, of the same shape and device; its dtype may be another (autocast). No gradient.
        wp_weight: factor of equation 2, 0 or more.
        reconstruction: ``mse`` or ``l1``.
        weights: 0 or more for each element, of x's shape or (D,), floating or bool: a mask of padding, or factors of
            layers. Means divide by their sum. Elements of weight 0 may hold anything, NaN too. No gradient.
        reduction: ``mean`` over all elements, ``sum``, or ``sample``: a mean for each index of the first dimension.
            (There is no ``none``: n losses in memory are what this function is there to avoid.)

    Returns:
        Three tensors of shape (), or (B,) for ``sample``. A mean over nothing, or over weights of sum 0, is 0, and so
        is its gradient. sign(0) is 0.

    Raises:
        ValueError: if shapes, devices or dtypes do not fit, or an option is unknown.
        RuntimeError: in a backward pass with ``create_graph=True``.
    """
    _check(x_hat, x, wp_weight, reconstruction, weights, reduction)
    with_grad = torch.is_grad_enabled() and x_hat.requires_grad and x_hat.dtype != torch.float16
    loss, reconstruction_loss, wp, _ = wp_loss(
        x_hat, x, weights, float(wp_weight), reconstruction, reduction, with_grad
    )
    return LossTerms(loss, reconstruction_loss, wp)


class WeightPreservedLoss(nn.Module):
    """``weight_preserved_loss`` with its options kept."""

    def __init__(self, wp_weight: float = 1.0, reconstruction: str = "mse", reduction: str = "mean") -> None:
        super().__init__()
        self.wp_weight, self.reconstruction, self.reduction = wp_weight, reconstruction, reduction

    def forward(self, x_hat: Tensor, x: Tensor, weights: Tensor | None = None) -> LossTerms:
        """The loss and its terms."""
        return weight_preserved_loss(
            x_hat,
            x,
            wp_weight=self.wp_weight,
            reconstruction=self.reconstruction,
            weights=weights,
            reduction=self.reduction,
        )


def _check(
    x_hat: Tensor, x: Tensor, wp_weight: float, reconstruction: str, weights: Tensor | None, reduction: str
) -> None:
    if reconstruction not in RECONSTRUCTIONS:
        raise ValueError(f"reconstruction is {reconstruction!r}; it must be one of {', '.join(RECONSTRUCTIONS)}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; it must be one of {', '.join(REDUCTIONS)}")
    if not 0 <= wp_weight < math.inf:
        raise ValueError(f"wp_weight is {wp_weight}; it must be finite and 0 or more")
    if x_hat.shape != x.shape:
        raise ValueError(f"x_hat is {tuple(x_hat.shape)} and x {tuple(x.shape)}; they must have one shape")
    if reduction == "sample" and x.ndim < 2:
        raise ValueError(f"x is {tuple(x.shape)}; reduction 'sample' needs a dimension of samples and one of elements")
    for name, tensor in (("x_hat", x_hat), ("x", x)):
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} is {tensor.dtype}; it must be float16, bfloat16, float32 or float64")
    for name, given in (("x", x), ("weights", weights)):
        if given is None:
            continue
        if given.device != x_hat.device:
            raise ValueError(f"{name} is on {given.device} and x_hat on {x_hat.device}; move it there")
        if given.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{name} requires a gradient, and only x_hat gets one; detach it")
    if weights is not None:
        if weights.dtype not in (*DTYPES, torch.bool):
            raise ValueError(f"weights are {weights.dtype}; they must be floating or bool")
        if weights.shape not in (x.shape, x.shape[-1:]):
            raise ValueError(f"weights are {tuple(weights.shape)}; they must be {tuple(x.shape)} or (D,) of x")
