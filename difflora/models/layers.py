"""Attention, MLP and transformer layer, shared by the autoencoder's decoder and the diffusion transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention over the tokens of (B, T, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, W / H)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (B, H, T, W / H) each
        mixed = F.scaled_dot_product_attention(query, key, value)  # (B, H, T, W / H)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # (B, T, W)


class Mlp(nn.Sequential):
    """Linear, GELU, Linear on the last dimension."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, outputs))


class TransformerLayer(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a residual path."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width, hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        x = x + self.attention(self.norm1(x))  # (B, T, W)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]  # (B, T, W)


class AdaLnLayer(nn.Module):
    """A DiT block: shift, scale and gate of both parts come from the condition; all start at zero (AdaLN-zero)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, hidden, width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, T, W), (B, W) -> (B, T, W)."""
        parts = self.modulation(condition).unsqueeze(1).chunk(6, dim=-1)  # (B, 1, W) each
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        x = x + gate1 * self.attention(modulate(self.norm1(x), shift1, scale1))  # (B, T, W)
        out: Tensor = x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))  # (B, T, W)
        return out


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x * (1 + scale) + shift``."""
    return x * (1 + scale) + shift


def zero(layer: nn.Module) -> None:
    """Sets a layer's parameters to zero, so that what it feeds starts without it."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
