"""How well embeddings tell people apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Verification:
    """Figures over all pairs of pictures.

    Attributes:
        tar: fraction of pairs of one person above the threshold (true accept rate).
        threshold: the cosine that the fraction ``far`` of pairs of different people exceeds.
        same: mean cosine of pairs of one person.
        different: mean cosine of pairs of different people.
    """

    tar: float
    threshold: float
    same: float
    different: float


def verification(embeddings: Tensor, identity: Tensor, far: float = 0.01) -> Verification:
    """TAR at a given FAR over all pairs.

    Args:
        embeddings: (N, D) float, unit vectors; a row of zeros (no face found) matches nothing.
        identity: (N,) int64.
        far: the false accept rate.

    Raises:
        ValueError: if there is no pair of one person or none of different people.
    """
    cosines = embeddings.float() @ embeddings.float().T  # (N, N)
    alike = identity[:, None] == identity[None, :]
    upper = torch.ones_like(alike).triu(diagonal=1)
    same, different = cosines[alike & upper], cosines[~alike & upper]
    if not len(same) or not len(different):
        raise ValueError("verification needs at least two pictures of one person and two people")
    rank = min(len(different) - 1, int((1 - far) * len(different)))
    threshold = float(different.sort().values[rank])
    return Verification(
        float((same > threshold).float().mean()), threshold, float(same.mean()), float(different.mean())
    )
