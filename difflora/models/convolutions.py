"""The autoencoder's encoder: levels of 1-D convolutions over the flat vector, attention in the middle (paper, 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from difflora.models.layers import Attention

_GROUP = 8


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _GROUP if channels % _GROUP == 0 else 1, channels)


class ResidualBlock(nn.Module):
    """Two 1-D convolutions of width 3, each behind a group norm and SiLU, beside a residual path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(channels), nn.Conv1d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = _norm(channels), nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L)."""
        y = self.conv1(F.silu(self.norm1(x)))  # (B, C, L)
        return x + self.conv2(F.silu(self.norm2(y)))  # type: ignore[no-any-return]  # (B, C, L)


class Level(nn.Sequential):
    """A convolution that shortens by its stride, then two residual blocks."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__(nn.Conv1d(inputs, channels, stride, stride), ResidualBlock(channels), ResidualBlock(channels))


class MiddleBlock(nn.Module):
    """Residual block, attention over all places, residual block."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.before = ResidualBlock(channels)
        self.norm, self.attention = nn.LayerNorm(channels), Attention(channels, heads)
        self.after = ResidualBlock(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L)."""
        x = self.before(x)  # (B, C, L)
        places = x.transpose(1, 2)  # (B, L, C)
        places = places + self.attention(self.norm(places))  # (B, L, C)
        return self.after(places.transpose(1, 2))  # type: ignore[no-any-return]  # (B, C, L)


class ConvolutionalEncoder(nn.Module):
    """Flat vectors to latents of L places, L = the length over the product of the strides."""

    def __init__(self, strides: Sequence[int], channels: Sequence[int], latent_channels: int, heads: int) -> None:
        super().__init__()
        inputs = (1, *channels[:-1])
        self.levels = nn.Sequential(*map(Level, inputs, channels, strides))
        self.middle = MiddleBlock(channels[-1], heads)
        self.norm = _norm(channels[-1])
        self.out = nn.Conv1d(channels[-1], latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L * stride) -> (B, L, C)."""
        h = self.middle(self.levels(x.unsqueeze(1)))  # (B, channels, L)
        latents: Tensor = self.out(F.silu(self.norm(h)))  # (B, C, L)
        return latents.transpose(1, 2)  # (B, L, C)
