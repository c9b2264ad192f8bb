"""What a face model must overlook: blur, noise, lost resolution, bent lines, and a detector's errors in the landmarks.

Skin, hair and eye colours belong to a person here, so hues are left alone; so is the side of a birthmark, and nothing
is mirrored. Blur, blotches and noise stand for what a small VAE and a diffusion model do to a picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.encoders.align import align
from difflora.world.pool import Pool

_TAPS = torch.arange(-6.0, 7.0)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(n, 1, 1, 1) numbers in [low, high)."""
    return torch.rand(n, 1, 1, 1, generator=generator) * (high - low) + low


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a width of its own for each picture.

    Args:
        images: (N, C, H, W) float32.
        sigma: (N,) float32 in pixels, up to about 2.5 (13 taps).

    Returns:
        (N, C, H, W) float32.
    """
    n, channels, height, width = images.shape
    weights = torch.exp(-_TAPS.square() / (2 * sigma.clamp(min=1e-3)[:, None].square()))  # (N, 13)
    kernel = (weights / weights.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)  # (N*C, 7)
    flat = F.pad(images.reshape(1, n * channels, height, width), (6, 6, 6, 6), mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=n * channels)  # (1, N*C, H+12, W)
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=n * channels)  # (1, N*C, H, W)
    return flat.reshape(n, channels, height, width)


def degrade(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Blurs, coarsens, blotches, dims and dusts pictures a little; a third of them are left as they are.

    Args:
        images: (N, 3, H, W) float32 in [0, 1].
        generator: the randomness.
        strength: scale of all widths; 0 changes nothing.

    Returns:
        (N, 3, H, W) float32 in [0, 1].
    """
    n, _, height, width = images.shape
    if strength == 0 or n == 0:
        return images
    touched = (torch.rand(n, 1, 1, 1, generator=generator) > 1 / 3).float()
    softened = blur(images, torch.rand(n, generator=generator) * strength)
    side = int(torch.randint(max(8, int(height / (2 * max(strength, 1)))), height, (1,), generator=generator))
    small = F.interpolate(images, size=(side, side * width // height), mode="bilinear", antialias=True)
    coarse = F.interpolate(small, size=(height, width), mode="bilinear")
    output = torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.3, coarse, softened)
    blotches = torch.randn(n, 3, 8, 8, generator=generator) * _uniform(n, 0, 0.03 * strength, generator)
    output = output + F.interpolate(blotches, size=(height, width), mode="bilinear")
    output = output + torch.randn(images.shape, generator=generator) * _uniform(n, 0, 0.03 * strength, generator)
    gain = 1 + _uniform(n, -0.1, 0.1, generator) * strength
    output = output * gain + _uniform(n, -0.03, 0.03, generator) * strength
    return torch.lerp(images, output, touched).clamp(0, 1)


def warp(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Bends each picture smoothly: places move by up to ``amount`` pixels (a deviation drawn for each picture).

    Args:
        images: (N, C, H, W) float32.
        amount: the largest deviation, in pixels; 0 changes nothing.
        generator: the randomness.

    Returns:
        (N, C, H, W) float32.
    """
    n, _, height, width = images.shape
    if amount == 0 or n == 0:
        return images
    moves = torch.randn(n, 2, 10, 10, generator=generator) * _uniform(n, 0, amount, generator)
    field = F.interpolate(moves, size=(height, width), mode="bicubic").permute(0, 2, 3, 1)  # (N, H, W, 2) in pixels
    straight = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 1, height, width], align_corners=False)
    bent = straight + field * torch.tensor([2 / width, 2 / height])
    return F.grid_sample(images, bent, padding_mode="border", align_corners=False)


def jitter(landmarks: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Moves landmarks as a detector's errors do: each by itself, with a tail of worse detections.

    Args:
        landmarks: (N, 5, 2) float32 in pixels.
        amount: standard deviation, in distances between the eyes' and the mouth's middles.
        generator: the randomness.

    Returns:
        (N, 5, 2) float32 in pixels.
    """
    down = landmarks[:, 3:].mean(dim=1) - landmarks[:, :2].mean(dim=1)  # (N, 2)
    size: Tensor = torch.linalg.vector_norm(down, dim=-1)[:, None, None]  # (N, 1, 1)
    spread = 0.5 + torch.rand(len(landmarks), 1, 1, generator=generator)
    together = torch.randn(len(landmarks), 1, 2, generator=generator)
    alone = torch.randn(landmarks.shape, generator=generator)
    return landmarks + (alone + 0.5 * together) * spread * size * amount


def training_crops(
    pool: Pool,
    rows: Tensor,
    generator: torch.Generator,
    *,
    landmark_noise: float,
    strength: float,
    bend: float = 0.0,
) -> Tensor:
    """Aligned crops of a pool's pictures, augmented, as a recogniser takes them.

    Args:
        pool: the pictures.
        rows: (B,) int64.
        generator: the randomness.
        landmark_noise: see :func:`jitter`.
        strength: see :func:`degrade`.
        bend: see :func:`warp`.

    Returns:
        (B, 3, 112, 112) float32 in [-1, 1].
    """
    images = degrade(warp(pool.batch(rows), bend, generator), generator, strength)
    return align(images, jitter(pool.landmarks[rows], landmark_noise, generator)) * 2 - 1
