"""The WP loss of large inputs on CPU: the reference's formula, fused by torch.compile into one pass over memory.

Compiled once a process for each kind of input (seconds; torch keeps the result on disk), by the C++ compiler that
torch.compile uses. Where there is none, the reference serves.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache

import torch
from torch import Tensor

from difflora_kernels.wp_loss import reference
from difflora_kernels.wp_loss.problem import Problem

LEAST = 2**20
"""Fewer elements than this take the reference less time than a compilation is worth."""
WIDTH = 2**12
"""Most elements that are summed in float32 before float64 goes on."""
LEAST_WIDTH = 2**8
"""Fewer than this to a piece cost more than a copy of the gradient."""


def serves(device: torch.device, numel: int) -> bool:
    """Whether inputs are large enough, on CPU, and there is a C++ compiler."""
    return device.type == "cpu" and numel >= LEAST and _has_compiler()


def fused(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    factors: Tensor,
    wp_factors: Tensor,
    with_grad: bool,
    l1: bool,
) -> tuple[Tensor | None, Tensor]:
    """A ``reference.Pass``: all full pieces of a row compiled, and by the reference what is left over.

    The compiler makes one loop of gradient and sums only if the gradient is its to allocate and every piece has
    factors of its own; otherwise it reads the inputs twice. So the gradient is copied once where pieces do not fill
    the rows; rows that a power of 2 from ``LEAST_WIDTH`` on divides, as SDXL's, have nothing left over.
    """
    rows, columns = x.shape
    width = piece_width(columns)
    full = columns // width * width
    grad, sums = None, torch.zeros(2, rows, dtype=torch.float64)
    if full:
        each = rows, full // width, 1
        with torch.no_grad():  # a compiler compiles again where this differs
            grad, parts = _compiled()(
                _pieces(x_hat, full, width),
                _pieces(x, full, width),
                None if weights is None else _pieces(weights, full, width),
                factors[..., None].expand(each).contiguous(),  # (R, K, 1)
                wp_factors[..., None].expand(each).contiguous(),
                with_grad,
                l1,
            )  # (R, K, width), (2, R, K)
        sums += parts.double().sum(-1)
    if full < columns:
        slopes, left_over = reference.by_pieces(
            x_hat[:, full:],
            x[:, full:],
            None if weights is None else weights[:, full:],
            factors,
            wp_factors,
            with_grad,
            l1,
        )
        sums += left_over
        if slopes is not None:
            grad = slopes if grad is None else torch.cat([grad.view(rows, full), slopes], dim=1)
    return grad, sums


def piece_width(columns: int) -> int:
    """The largest power of 2 up to ``WIDTH`` that divides the columns, or ``WIDTH`` where that one is too small."""
    width = min(columns & -columns, WIDTH)
    return width if width >= LEAST_WIDTH else WIDTH


def _pieces(table: Tensor, full: int, width: int) -> Tensor:
    """(R, N) -> (R, K, width)."""
    return table[:, :full].view(len(table), -1, width)


def forward(
    x_hat: Tensor, x: Tensor, weights: Tensor | None, totals: Tensor | None, with_grad: bool, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """As the reference's."""
    return reference.forward(x_hat, x, weights, totals, with_grad, problem, fused)


def backward(
    x_hat: Tensor, x: Tensor, weights: Tensor | None, totals: Tensor | None, upstream: Tensor, problem: Problem
) -> Tensor:
    """As the reference's."""
    return reference.backward(x_hat, x, weights, totals, upstream, problem, fused)


@cache
def _compiled() -> reference.Pass:
    return torch.compile(reference.formula, dynamic=True, fullgraph=True)


@cache
def _has_compiler() -> bool:
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return sys.platform != "win32" and shutil.which(name) is not None
