"""All about one WP loss but its tensors: the formula, and the inputs seen as a table of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RECONSTRUCTIONS = ("mse", "l1")
REDUCTIONS = ("mean", "sum", "sample")


@dataclass(frozen=True)
class Problem:
    """R rows of N contiguous elements, in G groups of R / G rows; each group gives one number.

    Rows are no longer than they must be: a row shares its weights with others, or belongs to a sample of its own.

    Attributes:
        groups: G: one, or one a sample.
        rows: R.
        columns: N.
        weights_stride: elements from one row's weights to the next row's; 0 where all rows share N weights.
        count: what a group's sum is divided by where there are no weights; 1 for sums.
        wp_weight: factor of equation 2.
        l1: whether the reconstruction loss is the absolute difference, not the squared one.
    """

    groups: int
    rows: int
    columns: int
    weights_stride: int
    count: int
    wp_weight: float
    l1: bool

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        weights_shape: Sequence[int] | None,
        wp_weight: float,
        reconstruction: str,
        reduction: str,
    ) -> Problem:
        """The problem for inputs of a shape, and weights of that shape, of the last dimension's, or none."""
        groups = shape[0] if reduction == "sample" else 1
        shared = weights_shape is not None and tuple(weights_shape) != tuple(shape)
        numel = math.prod(shape)
        rows = numel // shape[-1] if shared and numel else groups
        columns = numel // rows if rows else 0
        count = 1 if reduction == "sum" else numel // max(groups, 1)
        return cls(groups, rows, columns, 0 if shared else columns, count, wp_weight, reconstruction == "l1")

    @property
    def numel(self) -> int:
        """R N."""
        return self.rows * self.columns

    def table(self, tensor: Tensor) -> Tensor:
        """Values of the inputs' shape as (R, N)."""
        return tensor.reshape(self.rows, self.columns)

    def weights_table(self, weights: Tensor) -> Tensor:
        """Weights as (R, N), or (1, N) where all rows share them."""
        return weights.reshape(self.rows if self.weights_stride else 1, self.columns)

    def totals(self, weights: Tensor) -> Tensor:
        """(G,): the sum of each group's weights, what a mean divides by; float32, or float64 where weights are."""
        dtype = torch.promote_types(weights.dtype, torch.float32)
        if self.weights_stride:
            return weights.reshape(self.groups, -1).sum(1, dtype=dtype)
        return (weights.sum(dtype=dtype) * (self.rows // self.groups)).repeat(self.groups)
