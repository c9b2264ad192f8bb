"""Ridge regression from a person's features to their latent, its strength chosen on people left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DEFAULT_STRENGTH = 0.1
"""A penalty that leaves a map its size. Most of a LoRA nothing foretells, nor does it show in pictures; the least
squared error counts it like the rest, and would shrink the map to nearly nothing (docs/experiments.md)."""

_STRENGTHS = tuple(10.0**power for power in range(-4, 3))
_FOLDS = 5
_LEAST = 1e-12


@dataclass(frozen=True)
class Ridge:
    """A linear map ``y = weight x + bias``.

    Attributes:
        weight: (Z, F) float32.
        bias: (Z,) float32.
        strength: the penalty, in parts of the features' mean square.
    """

    weight: Tensor
    bias: Tensor
    strength: float


def fit_ridge(x: Tensor, y: Tensor, owners: Tensor, strength: float | None = None) -> Ridge:
    """Fits one map to all pictures of all people; everyone counts the same, however many pictures they have.

    Args:
        x: (M, F) features of pictures.
        y: (N, Z) latents of people.
        owners: (M,) int64, whose picture each is.
        strength: the penalty; None for the best of 1e-4 to 100 by 5-fold cross-validation over people.

    Returns:
        The map, computed in float64.
    """
    share = 1 / owners.bincount(minlength=len(y)).double()[owners]  # (M,)
    inputs = torch.cat([x.double(), x.new_ones(len(x), 1).double()], dim=1)  # (M, F + 1)
    parts = []
    for fold in range(min(_FOLDS, len(y))):
        chosen = owners % _FOLDS == fold
        parts.append(_Moments.of(inputs[chosen], y, owners[chosen], share[chosen]))
    whole = sum(parts[1:], parts[0])
    if strength is None:
        strength = min(_STRENGTHS, key=lambda one: _error_left_out(parts, whole, one)) if len(parts) > 1 else 1.0
    solved = whole.solve(strength)  # (F + 1, Z)
    return Ridge(solved[:-1].T.float().contiguous(), solved[-1].float(), strength)


@dataclass(frozen=True)
class _Moments:
    """All that regression needs to know of some pictures."""

    products: Tensor  # (F + 1, F + 1) X^T W X
    mixed: Tensor  # (F + 1, Z) X^T W Y

    @classmethod
    def of(cls, inputs: Tensor, y: Tensor, owners: Tensor, share: Tensor) -> _Moments:
        weighted = inputs * share[:, None]  # (m, F + 1)
        means = inputs.new_zeros(len(y), inputs.shape[1]).index_add_(0, owners, weighted)  # (N, F + 1)
        return cls(weighted.T @ inputs, means.T @ y.double())

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.products + other.products, self.mixed + other.mixed)

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(self.products - other.products, self.mixed - other.mixed)

    def solve(self, strength: float) -> Tensor:
        """The penalised map (F + 1, Z); the last input is the constant, which is not penalised."""
        diagonal = self.products.diagonal()
        penalty = torch.full_like(diagonal, strength * max(float(diagonal[:-1].mean()), _LEAST))
        penalty[-1] = 0
        solved: Tensor = torch.linalg.solve(self.products + penalty.diag(), self.mixed)
        return solved

    def error(self, solved: Tensor) -> float:
        """The weighted squared error of a map, without the part that no map changes."""
        return float(((self.products @ solved - 2 * self.mixed) * solved).sum())


def _error_left_out(parts: list[_Moments], whole: _Moments, strength: float) -> float:
    return sum(part.error((whole - part).solve(strength)) for part in parts)
