"""Random changes to pictures that keep their content: what a slightly soft generated picture may look like."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def jitter_place(
    images: Tensor, generator: torch.Generator, *, shift: float = 0.08, scale: float = 0.08, flip: bool = True
) -> Tensor:
    """Moves, scales and mirrors each picture; borders are mirrored in.

    Args:
        images: (N, 3, H, W) float32.
        generator: draws what happens to each picture.
        shift: largest move, as a fraction of the picture's side.
        scale: largest relative change of size.
        flip: whether half of the pictures are mirrored left to right.
    """
    n = len(images)
    size = 1 + _uniform((n,), -scale, scale, generator)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    move = _uniform((n, 2), -2 * shift, 2 * shift, generator)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = size * mirror, size, move
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)  # (N, H, W, 2)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def soften(images: Tensor, generator: torch.Generator, *, least: int = 40, odds: float = 0.5) -> Tensor:
    """Blurs pictures by a 3x3 binomial filter and, for a part of the batch, by fewer pixels.

    Args:
        images: (N, 3, H, W) float32, square.
        generator: draws what happens to each picture.
        least: fewest pixels a side that a picture passes through.
        odds: probability that a picture is blurred; half of that that it passes through fewer pixels.
    """
    n, side = len(images), images.shape[-1]
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    amount = torch.rand(n, generator=generator) * (torch.rand(n, generator=generator) < odds)
    images = torch.lerp(images, blurred, amount.view(-1, 1, 1, 1))
    few = int(torch.randint(least, side, (1,), generator=generator)) if least < side else side
    coarse = torch.rand(n, generator=generator) < odds / 2
    if few < side and bool(coarse.any()):
        small = F.interpolate(images[coarse], size=(few, few), mode="bilinear", antialias=True)
        images = images.clone()
        images[coarse] = F.interpolate(small, size=(side, side), mode="bilinear")
    return images


def jitter_colour(images: Tensor, generator: torch.Generator, *, amount: float = 0.06, noise: float = 0.03) -> Tensor:
    """Changes brightness, contrast and tint a little and adds noise; values stay in [0, 1].

    Args:
        images: (N, 3, H, W) float32 in [0, 1].
        generator: draws what happens to each picture.
        amount: largest change of contrast and brightness; each channel moves by half of that at most besides.
        noise: largest standard deviation of the noise.
    """
    n = len(images)
    gain = 1 + _uniform((n, 1, 1, 1), -amount, amount, generator)
    offset = _uniform((n, 1, 1, 1), -amount, amount, generator)
    tint = _uniform((n, 3, 1, 1), -amount / 2, amount / 2, generator)
    grain = torch.randn(images.shape, generator=generator) * _uniform((n, 1, 1, 1), 0.0, noise, generator)
    return (images * gain + offset + tint + grain).clamp(0, 1)


def random_crops(
    images: Tensor, side: int, area: tuple[float, float], generator: torch.Generator, *, flip: bool = True
) -> Tensor:
    """Cuts a random square out of each picture and scales it to ``side`` pixels.

    Args:
        images: (N, 3, H, H) float32.
        side: sides of the crops in pixels.
        area: least and largest fraction of the picture's area.
        generator: draws the places and sizes.
        flip: whether half of the crops are mirrored left to right.

    Returns:
        (N, 3, side, side) float32.
    """
    n = len(images)
    extent = _uniform((n,), area[0], area[1], generator).sqrt()  # side of the crop, as a fraction
    centre = _uniform((n, 2), -1.0, 1.0, generator) * (1 - extent)[:, None]
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = extent * mirror, extent, centre
    grid = F.affine_grid(theta, [n, 3, side, side], align_corners=False)  # (N, side, side, 2)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
