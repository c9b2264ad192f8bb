"""Convolution with normalisation, and how the normalisation is folded into the weights for use."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

_M = TypeVar("_M", bound=nn.Module)


def channels_last(module: _M) -> _M:
    """Lays the module's kernels out with channels last, about a fifth faster to train on a CPU."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


class ConvNorm(nn.Module):
    """3x3 (or other) convolution, BatchNorm and, unless told otherwise, ReLU.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: step of the kernel.
        kernel: side of the kernel; the padding keeps cell i at pixel i * stride.
        activate: whether a ReLU follows.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3, *, activate: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.activation: nn.Module = nn.ReLU(inplace=True) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        output: Tensor = self.activation(self.norm(self.conv(x)))
        return output

    def fold(self) -> None:
        """Multiplies the normalisation into the convolution, for inference alone."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class LinearNorm(nn.Module):
    """A linear layer and BatchNorm, the end of an ArcFace network."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(outputs)
        nn.init.normal_(self.linear.weight, std=inputs**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) to (N, outputs)."""
        output: Tensor = self.norm(self.linear(x))
        return output

    def fold(self) -> None:
        """Multiplies the normalisation into the linear layer, for inference alone."""
        if isinstance(self.norm, nn.BatchNorm1d):
            self.linear = fuse_linear_bn_eval(self.linear, self.norm)
            self.norm = nn.Identity()


def folded(module: nn.Module) -> nn.Module:
    """A copy of ``module`` for inference, without BatchNorm."""
    output = copy.deepcopy(module).eval()
    for part in output.modules():
        if isinstance(part, ConvNorm | LinearNorm):
            part.fold()
    output.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return output.requires_grad_(False)
