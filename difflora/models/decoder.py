"""The autoencoder's decoder: attention layers over the latent's places, and an MLP for each (paper, 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from difflora.models.layers import Mlp, TransformerLayer

_INIT_STD = 0.02


class AttentionDecoder(nn.Module):
    """Latents of L places to flat vectors; every place gives ``stride`` numbers."""

    def __init__(
        self, places: int, latent_channels: int, stride: int, *, width: int, heads: int, layers: int, mlp_width: int
    ) -> None:
        super().__init__()
        self.inputs = nn.Linear(latent_channels, width)
        self.positions = nn.Parameter(torch.empty(places, width))
        nn.init.normal_(self.positions, std=_INIT_STD)
        self.layers = nn.Sequential(*(TransformerLayer(width, heads, 4 * width) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp_width, stride)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, L, C) -> (B, L * stride)."""
        tokens = self.inputs(latents) + self.positions  # (B, L, W)
        tokens = self.layers(tokens)  # (B, L, W)
        return self.mlp(self.norm(tokens)).flatten(1)  # type: ignore[no-any-return]  # (B, L * stride)
