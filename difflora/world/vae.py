"""The base model's VAE: an ``AutoencoderKL`` of SDXL's shape, eight pixels to a latent."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from difflora.world.loop import train
from difflora.world.pool import Pool, generic_pool

logger = logging.getLogger(__name__)


class VaeSettings(BaseModel):
    """How the VAE is built and trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent_channels: int = Field(16, ge=1)
    channels: tuple[int, int, int, int] = (16, 48, 96, 128)
    steps: int = Field(6000, ge=1)
    batch_size: int = Field(16, ge=1)
    lr: float = Field(1e-3, gt=0)
    kl_weight: float = Field(1e-6, ge=0, description="weight of the KL term; small, as in Stable Diffusion")
    edge_weight: float = Field(0.5, ge=0, description="weight of the L1 loss on differences of neighbouring pixels")
    seed: int = 11


def build_vae(settings: VaeSettings) -> AutoencoderKL:
    """An untrained VAE: (N, 3, 64, 64) in [-1, 1] to latents (N, latent_channels, 8, 8)."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=settings.channels,
        layers_per_block=1,
        latent_channels=settings.latent_channels,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def vae_loss(vae: AutoencoderKL, pixels: Tensor, generator: torch.Generator, settings: VaeSettings) -> Tensor:
    """Squared and absolute error, absolute error of neighbouring differences, and KL; pixels (N, 3, H, W) in [-1, 1]."""
    posterior = vae.encode(pixels).latent_dist
    latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
    output = vae.decode(latents).sample
    error = output - pixels
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    kl = posterior.kl().mean()
    loss: Tensor = (
        4 * error.pow(2).mean() + 0.25 * error.abs().mean() + settings.edge_weight * edges + settings.kl_weight * kl
    )
    return loss
