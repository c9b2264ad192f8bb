"""Residual branches that start at zero: a fresh network is its straight path, and learns the rest."""

from __future__ import annotations

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn


def zero_residual_branches(network: nn.Module) -> None:
    """Zeroes the last layer of every residual block and transformer block of a diffusers network, in place."""
    for module in network.modules():
        last: tuple[nn.Module, ...] = ()
        if isinstance(module, ResnetBlock2D):
            last = (module.conv2,)
        elif isinstance(module, BasicTransformerBlock):
            last = (module.attn1.to_out[0], module.attn2.to_out[0], module.ff.net[2])
        for layer in last:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
