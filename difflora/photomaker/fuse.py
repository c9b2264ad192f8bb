"""The network that joins the class word's embedding with a reference picture's (arXiv:2312.04461, 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    """LayerNorm and two linear layers, with a straight path where ``residual``.

    Args:
        in_width: of the input.
        width: of the hidden layer and the output.
        residual: whether the input is added.
    """

    def __init__(self, in_width: int, width: int, *, residual: bool) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(in_width)
        self.fc1 = nn.Linear(in_width, width)
        self.fc2 = nn.Linear(width, width)
        self.act_fn = nn.GELU()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_width) to (..., width)."""
        y: Tensor = self.fc2(self.act_fn(self.fc1(self.layernorm(x))))
        return y + x if self.residual else y


class FuseModule(nn.Module):
    """Class word and picture to one vector of the prompt embeddings' width W."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp1 = Mlp(2 * width, width, residual=False)
        self.mlp2 = Mlp(width, width, residual=True)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, words: Tensor, pictures: Tensor) -> Tensor:
        """Fuses vector by vector.

        Args:
            words: (..., W) embeddings of the class word.
            pictures: (..., W) of the reference pictures.

        Returns:
            (..., W).
        """
        both = torch.cat([words, pictures], dim=-1)  # (..., 2 W)
        fused: Tensor = self.layer_norm(self.mlp2(self.mlp1(both) + words))  # (..., W)
        return fused
