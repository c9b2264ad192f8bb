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
"""Elements that are summed in float32 before float64 goes on."""


def serves(device: torch.device, numel: int) -> bool:
    """Whether inputs are large enough, on CPU, and there is a C++ compiler."""
    return device.type == "cpu" and numel >= LEAST and _has_compiler()


def fused(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    factors: Tensor,
    wp_factors: Tensor,
    grad: Tensor | None,
    l1: bool,
) -> Tensor:
    """A ``reference.Pass``: all full pieces of ``WIDTH`` columns compiled, the rest by the reference."""
    full = x.shape[1] // WIDTH * WIDTH
    sums = torch.zeros(2, len(x), dtype=torch.float64)
    if full:
        with torch.no_grad():  # a compiler compiles again where this differs
            parts = _compiled()(
                _pieces(x_hat, full),
                _pieces(x, full),
                None if weights is None else _pieces(weights, full),
                factors[..., None],
                wp_factors[..., None],
                None if grad is None else _pieces(grad, full),
                l1,
            )  # (2, R, K)
        sums += parts.double().sum(-1)
    if full < x.shape[1]:
        sums += reference.by_pieces(
            x_hat[:, full:],
            x[:, full:],
            None if weights is None else weights[:, full:],
            factors,
            wp_factors,
            None if grad is None else grad[:, full:],
            l1,
        )
    return sums


def _pieces(table: Tensor, full: int) -> Tensor:
    """(R, N) -> (R, K, WIDTH)."""
    return table[:, :full].view(len(table), -1, WIDTH)


def forward(
    x_hat: Tensor, x: Tensor, weights: Tensor | None, totals: Tensor | None, grad: Tensor | None, problem: Problem
) -> tuple[Tensor, Tensor, Tensor]:
    """As the reference's."""
    return reference.forward(x_hat, x, weights, totals, grad, problem, fused)


def backward(
    x_hat: Tensor,
    x: Tensor,
    weights: Tensor | None,
    totals: Tensor | None,
    upstream: Tensor,
    grad: Tensor,
    problem: Problem,
) -> None:
    """As the reference's."""
    reference.backward(x_hat, x, weights, totals, upstream, grad, problem, fused)


@cache
def _compiled() -> reference.Pass:
    return torch.compile(reference.formula, dynamic=True, fullgraph=True)


@cache
def _has_compiler() -> bool:
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return sys.platform != "win32" and shutil.which(name) is not None
