"""The WP loss in torch: the formula that the kernel is compared with, on pieces that stay in a core's cache.

This is the path of small inputs on CPU and of devices without Triton; ``compiled`` runs the same formula over large
inputs on CPU.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from difflora_kernels.wp_loss.problem import Problem

PIECE = 2**16
"""Elements of a piece on CPU, 256 KiB in float32."""


class Pass(Protocol):
    """One pass over the inputs."""

    def __call__(
        self,
        x_hat: Tensor,
        x: Tensor,
        weights: Tensor | None,
        factors: Tensor,
        wp_factors: Tensor,
        with_grad: bool,
        l1: bool,
    ) -> tuple[Tensor | None, Tensor]:
        """Reads (R, N) tables; gives the gradient, (R, N) or None, and the sums of both losses, (2, R).

        The arguments and their meaning are those of ``formula``.
        """
        ...


def formula(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    factors: Tensor,
    wp_factors: Tensor,
    with_grad: bool,
    l1: bool,
) -> tuple[Tensor | None, Tensor]:
    """Both losses of each row, and their gradient in x_hat.

    Args:
        x_hat: (..., n).
        x: (..., n).
        weights: broadcasts to (..., n), or None.
        factors: (..., 1), of the reconstruction loss's gradient; its dtype is what is computed in.
        wp_factors: (..., 1), of the gradient of equation 2.
        with_grad: whether the gradient is wanted.
        l1: absolute differences instead of squares.

    Returns:
        The gradient, (..., n) in x_hat's dtype, or None; and (2, ...): sums over n of the reconstruction loss and of
        equation 2, each times the weight. The gradient comes first, and so does the compiler's loop that makes it: the
        sums join that loop, and it would not join theirs.
    """
    dtype = x_hat.dtype
    x_hat, x = x_hat.to(factors.dtype), x.to(factors.dtype)
    difference, magnitude = x_hat - x, x.abs()
    if weights is not None:
        weights = weights.to(factors.dtype)
        # What has no weight may hold anything, NaN too: 0 * NaN would spoil the sum.
        difference = difference.masked_fill(weights == 0, 0)
        magnitude = magnitude.masked_fill(weights == 0, 0) * weights
    sign = torch.sign(difference)  # sign(0) is 0
    slope = sign if l1 else difference
    if weights is not None:
        slope = slope * weights
    wp_slope = magnitude * sign
    grad = None
    if with_grad:
        grad = ((factors if l1 else 2 * factors) * slope + wp_factors * wp_slope).to(dtype)
    return grad, torch.stack([(slope * difference).sum(-1), (wp_slope * difference).sum(-1)])


def by_pieces(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    factors: Tensor,
    wp_factors: Tensor,
    with_grad: bool,
    l1: bool,
) -> tuple[Tensor | None, Tensor]:
    """The formula on one piece after the other; on all at once where there is no cache of a core to stay in."""
    rows, columns = x.shape
    size = PIECE if x.device.type == "cpu" else x.numel()
    width = min(columns, size)
    height = max(1, size // width)
    sums = torch.zeros(2, rows, dtype=torch.float64, device=x.device)
    grad = torch.empty(x.shape, dtype=x_hat.dtype, device=x.device) if with_grad else None
    for row in range(0, rows, height):
        tall = slice(row, row + height)
        for column in range(0, columns, width):
            piece = tall, slice(column, column + width)
            slopes, made = formula(
                x_hat[piece],
                x[piece],
                None if weights is None else weights[piece if len(weights) > 1 else (slice(None), piece[1])],
                factors[tall],
                wp_factors[tall],
                with_grad,
                l1,
            )
            sums[:, tall] += made
            if grad is not None and slopes is not None:
                grad[piece] = slopes
    return grad, sums


def forward(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    totals: Tensor | None,
    with_grad: bool,
    problem: Problem,
    run: Pass = by_pieces,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Loss, reconstruction loss and equation 2, (G,) float32 or float64 each; the gradient, as large as x_hat."""
    factors = _inverse(totals, x_hat, x, problem)  # (G,)
    grad, sums = _run(run, x_hat, x, weights, factors, with_grad, problem)  # (R, N), (2, R)
    reconstruction, wp = sums.view(2, problem.groups, -1).sum(-1).to(factors.dtype) * factors  # (G,)
    return reconstruction + problem.wp_weight * wp, reconstruction.clone(), wp.clone(), grad


def backward(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    totals: Tensor | None,
    upstream: Tensor,
    problem: Problem,
    run: Pass = by_pieces,
) -> Tensor:
    """The gradient from the inputs, as large as x_hat, times ``upstream``, (G,)."""
    grad, _ = _run(run, x_hat, x, weights, _inverse(totals, x_hat, x, problem) * upstream, True, problem)
    assert grad is not None
    return grad


def scale_(grad: Tensor, factors: Tensor) -> None:
    """Multiplies each of G equal parts of ``grad`` by its factor, (G,), in place."""
    # A look at the number is free on CPU, where most of these calls have nothing to do; elsewhere it would wait.
    if grad.device.type == "cpu" and bool((factors == 1).all()):
        return
    grad.view(factors.numel(), -1).mul_(factors[:, None])


def _run(
    run: Pass,
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    factors: Tensor,
    with_grad: bool,
    problem: Problem,
) -> tuple[Tensor | None, Tensor]:
    factors = factors.repeat_interleave(problem.rows // problem.groups)[:, None]  # (R, 1)
    return run(
        problem.table(x_hat),
        problem.table(x),
        None if weights is None else problem.weights_table(weights),
        factors,
        problem.wp_weight * factors,
        with_grad,
        problem.l1,
    )


def _inverse(totals: Tensor | None, x_hat: Tensor, x: Tensor, problem: Problem) -> Tensor:
    """(G,): 1 / the group's total weight, or 1 / count; 0 for a group without weight."""
    dtype = torch.promote_types(torch.promote_types(x_hat.dtype, x.dtype), torch.float32)
    if totals is None:
        return torch.full((problem.groups,), 1 / problem.count, dtype=dtype, device=x.device)
    return torch.where(totals == 0, 0, 1 / totals).to(dtype)
