"""A stand-in for a face pack, for bases that draw no faces."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Shades(nn.Module):
    """A random projection of a coarse picture, as long as the features that it is to be compared with.

    Args:
        dimension: their length.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.register_buffer("turn", torch.randn(48, dimension, generator=torch.Generator().manual_seed(8)))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors (N, D) of pictures (N, 3, H, W), and that each of them shows somebody."""
        coarse = F.adaptive_avg_pool2d(pictures, 4).flatten(1) - 0.5  # (N, 48)
        return F.normalize(coarse @ self.turn, dim=1), torch.ones(len(pictures), dtype=torch.bool)
