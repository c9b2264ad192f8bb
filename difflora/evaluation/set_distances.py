"""FID and KID of a method's pictures, and how far they would move had other people been drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difflora.encoders.distances import frechet_distance, kernel_distance

Array = np.ndarray[Any, np.dtype[np.float64]]
_SEED = 0


@dataclass(frozen=True)
class SetFigure:
    """A figure of all pictures together, which no person has alone.

    Attributes:
        value: over everyone.
        draws: (B,) float64, the same over people drawn with replacement; draw b takes the same people for any method.
    """

    value: float
    draws: Array


class SetDistances:
    """Distances of pictures from one reference set.

    The figures are torchmetrics'. The draws weight what each person's pictures add, so that none is encoded again.

    Args:
        reference: (M, D) features of the reference set.
        gamma: of KID's kernel; None for 1 / D.
        draws: B, how often people are drawn.
    """

    def __init__(self, reference: Tensor, gamma: float | None, draws: int) -> None:
        self._reference, self._draws = reference.double(), draws
        self._gamma = 1 / reference.shape[1] if gamma is None else gamma
        self._mean, covariance = self._reference.mean(0), torch.cov(self._reference.T)
        self._trace = covariance.trace()
        values, vectors = torch.linalg.eigh(covariance)
        self._root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # (D, D)
        self._own = _mean_of_pairs(self._kernel(self._reference, self._reference))

    def measure(self, features: Tensor) -> dict[str, SetFigure]:
        """``fid`` and ``kid`` of P people's K pictures each, (P, K, D)."""
        flat = features.double().flatten(0, 1)  # (P K, D)
        counts = _drawn(len(features), self._draws)  # (B, P)
        return {
            "fid": SetFigure(frechet_distance(flat, self._reference), self.frechet_draws(features, counts).numpy()),
            "kid": SetFigure(
                kernel_distance(flat, self._reference, self._gamma), self.kernel_draws(features, counts).numpy()
            ),
        }

    def frechet_draws(self, features: Tensor, counts: Tensor) -> Tensor:
        """FID where person p counts ``counts[b, p]`` times, (B,) float64.

        ``|m - m'|^2 + tr(S + S' - 2 (R S R)^(1/2))`` with R the root of the reference's S'.
        """
        people, each, _ = features.shape
        flat = features.double().flatten(0, 1)
        found = []
        for row in counts:
            weights = row.repeat_interleave(each)
            covariance = torch.cov(flat.T, fweights=weights)
            mean = (flat * weights[:, None]).sum(0) / (each * people)
            cross = torch.linalg.eigvalsh(self._root @ covariance @ self._root).clamp(min=0).sqrt().sum()
            found.append((mean - self._mean).square().sum() + covariance.trace() + self._trace - 2 * cross)
        return torch.stack(found)

    def kernel_draws(self, features: Tensor, counts: Tensor) -> Tensor:
        """KID where person p counts ``counts[b, p]`` times, (B,) float64, over all pairs instead of subsets.

        A person drawn twice is not compared with themselves: a picture beside its own copy would count as most alike.
        """
        people, each, _ = features.shape
        flat, weights = features.double().flatten(0, 1), counts.double()
        blocks = self._kernel(flat, flat).reshape(people, each, people, each)
        between = blocks.sum((1, 3))  # (P, P)
        inside = torch.einsum("pipj->pij", blocks)
        inside = inside.sum((1, 2)) - inside.diagonal(dim1=1, dim2=2).sum(1)  # (P,) over pairs of different pictures
        pairs = between - torch.diag(between.diagonal())
        total = torch.einsum("bp,pq,bq->b", weights, pairs, weights) + weights @ inside
        number = (people**2 - weights.square().sum(1)) * each**2 + people * each * (each - 1)
        across = self._kernel(flat, self._reference).reshape(people, -1).sum(1)  # (P,)
        across = (weights @ across) / (people * each * len(self._reference))
        found: Tensor = total / number + self._own - 2 * across
        return found[number > 0]

    def _kernel(self, one: Tensor, other: Tensor) -> Tensor:
        return (self._gamma * one @ other.T + 1) ** 3


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))


def _drawn(people: int, draws: int) -> Tensor:
    """How often each person is drawn, (B, P) int64; the same for the same number of people."""
    chosen = np.random.default_rng(_SEED).multinomial(people, np.full(people, 1 / people), size=draws)
    return torch.from_numpy(chosen)
