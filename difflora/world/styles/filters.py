"""What styles are made of: blurs, edges, tones, textures. All take and give (N, C, H, W) float32."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def grey(images: Tensor) -> Tensor:
    """Brightness, (N, 1, H, W)."""
    return (images * _LUMA).sum(1, keepdim=True)


def blur(images: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur, borders repeated."""
    reach = max(1, math.ceil(2.5 * sigma))
    line = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma * sigma))
    line = (line / line.sum()).to(images)
    channels = images.shape[1]
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    down = F.conv2d(padded, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(down, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def edges(images: Tensor, sigma: float = 0.6) -> Tensor:
    """How strongly brightness or colour changes (Sobel), (N, 1, H, W), about 0 to 1."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(images) / 4
    channels = images.shape[1]
    padded = F.pad(blur(images, sigma), (1,) * 4, mode="replicate")
    by_x, by_y = (
        F.conv2d(padded, one.expand(channels, 1, 3, 3), groups=channels) for one in (across, across.T.contiguous())
    )
    return (by_x.square() + by_y.square()).sqrt().amax(1, keepdim=True).mul(2).clamp(0, 1)


def steps(images: Tensor, count: Tensor) -> Tensor:
    """Values rounded to ``count`` levels, (N, 1, 1, 1)."""
    return ((images * count).floor() / (count - 1)).clamp(0, 1)


def colour(hue: Tensor, saturation: float, value: float) -> Tensor:
    """Colours of (N,) hues in [0, 1) as (N, 3, 1, 1)."""
    turned = (hue.view(-1, 1) + torch.tensor([0.0, 2 / 3, 1 / 3])) % 1  # (N, 3)
    pure = (turned * 6 - 3).abs().sub(1).clamp(0, 1)
    return (value * (1 - saturation + saturation * pure)).view(-1, 3, 1, 1)


def saturate(images: Tensor, factor: Tensor | float) -> Tensor:
    """Colours moved away from their grey."""
    own = grey(images)
    return (own + (images - own) * factor).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor | float) -> Tensor:
    """Values moved away from the middle."""
    return (0.5 + (images - 0.5) * factor).clamp(0, 1)


def noise(shape: tuple[int, ...], sigma: float, generator: torch.Generator) -> Tensor:
    """Smooth noise of mean 0 and deviation 1 a picture; ``sigma`` 0 is white."""
    drawn = torch.randn(shape, generator=generator)
    drawn = blur(drawn, sigma) if sigma > 0 else drawn
    return (drawn - drawn.mean((1, 2, 3), keepdim=True)) / drawn.std((1, 2, 3), keepdim=True).clamp(min=1e-6)


def coordinates(images: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns in pixels, each (1, 1, H, W)."""
    height, width = images.shape[-2:]
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return down[None, None].float(), across[None, None].float()


def waves(images: Tensor, angle: Tensor, period: Tensor) -> Tensor:
    """Parallel waves from 0 to 1: (N,) angles in turns, (N,) periods in pixels."""
    down, across = coordinates(images)
    turn = (angle * 2 * math.pi).view(-1, 1, 1, 1)
    place = across * turn.cos() + down * turn.sin()
    return 0.5 + 0.5 * (place * (2 * math.pi) / period.view(-1, 1, 1, 1)).sin()


def blocks(images: Tensor, side: int) -> Tensor:
    """Squares of ``side`` pixels, each of one colour."""
    height, width = images.shape[-2:]
    return F.interpolate(F.avg_pool2d(images, side, ceil_mode=True), scale_factor=side)[..., :height, :width]


def smooth_patches(images: Tensor, radius: int) -> Tensor:
    """Kuwahara's filter: each pixel takes the mean of the calmest of four squares beside it, as brushes do."""
    side = radius + 1
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    mean = F.avg_pool2d(padded, side, stride=1)  # of every square, by its corner
    spread = (F.avg_pool2d(padded.square(), side, stride=1) - mean.square()).sum(1, keepdim=True)
    height, width = images.shape[-2:]
    corners = [(top, left) for top in (0, radius) for left in (0, radius)]
    means = torch.stack([mean[..., top : top + height, left : left + width] for top, left in corners])
    spreads = torch.stack([spread[..., top : top + height, left : left + width] for top, left in corners])
    chosen = spreads.argmin(0, keepdim=True).expand(1, *means.shape[1:])
    return means.gather(0, chosen)[0]


def cells(images: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each pixel's cell of an irregular grid: pictures in one colour a cell, and where two cells meet, (1, 1, H, W)."""
    height, width = images.shape[-2:]
    rows, columns = -(-height // side), -(-width // side)
    place = torch.rand(rows, columns, 2, generator=generator)
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    seeds = ((place + torch.stack([down, across], -1)) * side).view(-1, 2)  # (K, 2)
    y, x = (one.flatten() for one in coordinates(images))
    apart = torch.cdist(torch.stack([y, x], 1), seeds)  # (H * W, K)
    two = apart.topk(2, largest=False)
    own = two.indices[:, 0]
    flat = images.flatten(2)  # (N, C, H * W)
    sums = torch.zeros(*flat.shape[:2], len(seeds)).index_add_(2, own, flat)
    counts = torch.bincount(own, minlength=len(seeds)).clamp(min=1)
    borders = (two.values[:, 1] - two.values[:, 0] < 1.0).float().view(1, 1, height, width)
    return (sums / counts)[:, :, own].view_as(images), borders
