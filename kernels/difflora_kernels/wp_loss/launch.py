"""Launches of the WP loss's Triton kernels. Sizes depend on the device alone, so that equal inputs give equal bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difflora_kernels.backend import on_device, processors
from difflora_kernels.wp_loss.kernel import finish_kernel, scale_kernel, wp_loss_kernel
from difflora_kernels.wp_loss.problem import Problem


@dataclass(frozen=True)
class LaunchConfig:
    """How the work is cut.

    It is fixed and not autotuned: another cut adds in another order, and a timing must not decide about bits.

    Attributes:
        block: elements that a program takes at a time; a power of 2.
        warps: of a program, 32 threads each.
        programs: of one multiprocessor.
    """

    block: int = 1024
    warps: int = 4
    programs: int = 8

    def chunks(self, rows: int, columns: int, device: torch.device) -> int:
        """C: programs that share a row."""
        wanted = -(-processors(device) * self.programs // rows)
        return max(1, min(wanted, -(-columns // self.block)))


CONFIG = LaunchConfig()
FINISH_BLOCK = 1024


def forward(
    x_hat: Tensor, x: Tensor, weights: Tensor | None, totals: Tensor | None, with_grad: bool, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Loss, reconstruction loss and equation 2, (G,) float32 each; the gradient, as large as x_hat."""
    chunks = CONFIG.chunks(problem.rows, problem.columns, x.device)
    partials = torch.empty(2, problem.rows * chunks, dtype=torch.float32, device=x.device)
    loss, reconstruction, wp = (torch.empty(problem.groups, dtype=torch.float32, device=x.device) for _ in range(3))
    grad = torch.empty_like(x_hat) if with_grad else None
    with on_device(x.device):
        _pass(x_hat, x, weights, totals, None, grad, partials, problem, chunks)
        finish_kernel[(problem.groups,)](
            partials,
            totals,
            loss,
            reconstruction,
            wp,
            partials.shape[1] // problem.groups,
            problem.count,
            problem.wp_weight,
            BLOCK=FINISH_BLOCK,
        )
    return loss, reconstruction, wp, grad


def backward(
    x_hat: Tensor, x: Tensor, weights: Tensor | None, totals: Tensor | None, upstream: Tensor, problem: Problem
) -> Tensor:
    """The gradient from the inputs, as large as x_hat, times ``upstream``, (G,) float32."""
    grad = torch.empty_like(x_hat)
    chunks = CONFIG.chunks(problem.rows, problem.columns, x.device)
    with on_device(x.device):
        _pass(x_hat, x, weights, totals, upstream, grad, None, problem, chunks)
    return grad


def scale_(grad: Tensor, factors: Tensor) -> None:
    """Multiplies each of G equal parts of ``grad`` by its factor, (G,) float32, in place."""
    groups = factors.numel()
    length = grad.numel() // groups
    chunks = CONFIG.chunks(groups, length, grad.device)
    with on_device(grad.device):
        scale_kernel[(groups * chunks,)](grad, factors, length, chunks, BLOCK=CONFIG.block, num_warps=CONFIG.warps)


def _pass(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    totals: Tensor | None,
    upstream: Tensor | None,
    grad: Tensor | None,
    partials: Tensor | None,
    problem: Problem,
    chunks: int,
) -> None:
    wp_loss_kernel[(problem.rows * chunks,)](
        x_hat,
        x,
        weights,
        totals,
        upstream,
        grad,
        partials,
        problem.columns,
        chunks,
        problem.rows // problem.groups,
        problem.weights_stride,
        problem.count,
        problem.wp_weight,
        L1=problem.l1,
        BLOCK=CONFIG.block,
        num_warps=CONFIG.warps,
    )
