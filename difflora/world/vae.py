"""The base model's VAE: an ``AutoencoderKL`` of SDXL's kind, four pixels to a latent.

Real pictures are large and SDXL's VAE takes eight pixels a side for one latent; at 64 pixels that leaves a face too few
places, and upsampling by nearest neighbours three times over learns slowly (docs/experiments.md has the figures).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from difflora.encoders.align import align
from difflora.folders import check_model_folder, whole_folder
from difflora.world.bars import Bar
from difflora.world.faces.augment import jitter
from difflora.world.faces.pack import embed_images, pack_folder
from difflora.world.faces.recogniser import FILE, embed_aligned, load_recogniser
from difflora.world.judge import judge_file
from difflora.world.loop import train
from difflora.world.pool import Pool, fresh_pool, generic_pool
from difflora.world.render import SIZE
from difflora.world.residual import zero_residual_branches

FACTOR = 4
"""Pixels a side to a latent."""

PLACES = SIZE // FACTOR
"""Latents a side of a picture."""

_LOG_VARIANCE = -8.0
"""Of the posterior, before training."""

_LANDMARK_NOISE = 0.05
"""Of the alignment before the identity loss, as in the recogniser's own training."""

_METRIC_PICTURES = 64
"""On which the decoder's sensitivity is measured; each has 256 places."""

_LEAST_SENSITIVITY = 1e-3
"""Of a direction, as a part of the mean one: what no pixel shows is not divided by nothing."""

_COUNT = 500


class VaeSettings(BaseModel):
    """How the VAE is built and trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent_channels: int = Field(12, ge=1)
    channels: tuple[int, ...] = Field((16, 32, 64), description="of the levels; each but the last halves the sides")
    steps: int = Field(2500, ge=1)
    batch_size: int = Field(8, ge=1)
    lr: float = Field(2e-3, gt=0)
    muon_lr: float = Field(0.02, gt=0)
    ema_decay: float = Field(0.998, ge=0, lt=1)
    face_weight: float = Field(2.0, ge=0, description="how much more an error inside the face's box counts")
    feature_weight: float = Field(4.0, ge=0, description="how much more one at the eyes, the nose or the mouth counts")
    l1_weight: float = Field(1.0, ge=0, description="weight of the L1 loss, which keeps what has little contrast")
    kl_weight: float = Field(2e-6, ge=0, description="weight of the KL term: latents smooth enough for diffusion")
    edge_weight: float = Field(1.0, ge=0, description="weight of the L1 loss on differences of neighbouring pixels")
    identity_weight: float = Field(0.25, ge=0, description="weight of what the recogniser's cosine lacks to 1")
    seed: int = 11


def build_vae(settings: VaeSettings) -> AutoencoderKL:
    """An untrained VAE: (N, 3, 64, 64) in [-1, 1] to latents (N, latent_channels, 16, 16).

    Residual branches start at zero and the posterior narrow: the linear path is learnt first, and fast. All channels
    are normalised together, so that how bright and how strong one is beside the others is kept.
    """
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(settings.channels),
        up_block_types=("UpDecoderBlock2D",) * len(settings.channels),
        block_out_channels=settings.channels,
        layers_per_block=1,
        latent_channels=settings.latent_channels,
        norm_num_groups=1,
        sample_size=SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=False,
    )
    with torch.no_grad():
        zero_residual_branches(vae)
        vae.quant_conv.weight[settings.latent_channels :] = 0
        vae.quant_conv.bias[settings.latent_channels :] = _LOG_VARIANCE
    return vae


def vae_loss(
    vae: AutoencoderKL, pixels: Tensor, weight: Tensor, generator: torch.Generator, settings: VaeSettings
) -> tuple[Tensor, Tensor]:
    """Squared and absolute error, absolute error of neighbouring differences, and KL.

    Args:
        vae: the autoencoder.
        pixels: (N, 3, H, W) in [-1, 1].
        weight: (N, 1, H, W) how much an error counts, by ``importance``.
        generator: draws the posterior's noise.
        settings: the weights of the terms.

    Returns:
        The loss, a scalar, and the reconstruction (N, 3, H, W).
    """
    posterior = vae.encode(pixels).latent_dist
    latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
    output = vae.decode(latents).sample  # (N, 3, H, W)
    error = output - pixels
    across = (error.diff(dim=-1).abs() * weight[..., 1:]).mean()
    down = (error.diff(dim=-2).abs() * weight[..., 1:, :]).mean()
    loss = (
        4 * (error.pow(2) * weight).mean()
        + settings.l1_weight * (error.abs() * weight).mean()
        + settings.edge_weight * (across + down) / 2
        + settings.kl_weight * posterior.kl().mean()
    )
    return loss, output


def identity_loss(recogniser: nn.Module, pixels: Tensor, output: Tensor, landmarks: Tensor) -> Tensor:
    """How far a recogniser's cosine between faces and their reconstructions is from 1, the mean.

    Args:
        recogniser: (N, 3, 112, 112) in [-1, 1] to (N, D).
        pixels: (N, 3, H, W) in [-1, 1].
        output: (N, 3, H, W) their reconstructions.
        landmarks: (N, 5, 2) in pixels, for the alignment of both.
    """
    with torch.no_grad():
        target = recogniser(align(pixels, landmarks))
    found = recogniser(align(output, landmarks))
    return 1 - F.cosine_similarity(found, target).mean()


def importance(boxes: Tensor, landmarks: Tensor, settings: VaeSettings) -> Tensor:
    """How much an error counts at each pixel: more in a face, most at its features; the mean over all is 1.

    Args:
        boxes: (N, 4) the faces' boxes in pixels.
        landmarks: (N, 5, 2) eyes, nose and mouth corners in pixels.
        settings: the weights.

    Returns:
        (N, 1, 64, 64) float32.
    """
    place = torch.arange(SIZE) + 0.5
    x = (place >= boxes[:, 0:1]) & (place < boxes[:, 2:3])  # (N, W)
    y = (place >= boxes[:, 1:2]) & (place < boxes[:, 3:4])  # (N, H)
    inside = (y[:, :, None] & x[:, None, :]).float()  # (N, H, W)
    points = torch.cat([landmarks, landmarks[:, 3:].mean(1, keepdim=True)], dim=1)  # (N, 6, 2), with the mouth's middle
    reach = 0.12 * (boxes[:, 2] - boxes[:, 0])[:, None, None]  # (N, 1, 1)
    across = torch.exp(-(((place - points[..., 0:1]) / reach) ** 2) / 2)  # (N, 6, W)
    down = torch.exp(-(((place - points[..., 1:2]) / reach) ** 2) / 2)  # (N, 6, H)
    features = (down[..., :, None] * across[..., None, :]).amax(1)  # (N, H, W)
    weight = 1 + settings.face_weight * inside + settings.feature_weight * features
    return (weight / weight.mean())[:, None]


def pixel_metric(vae: AutoencoderKL, latents: Tensor, weight: Tensor, generator: torch.Generator) -> Tensor:
    """How much a change of each latent channel changes the picture: the mean of J^T W J over pictures and places.

    J is the decoder's Jacobian from one place's channels to all pixels. It is estimated by random projections of the
    picture: for r of zero mean and unit covariance, E[(J^T r)(J^T r)^T] = J^T J.

    Args:
        vae: the autoencoder.
        latents: (N, C, 16, 16), unscaled.
        weight: (N, 1, 64, 64) how much a pixel counts.
        generator: draws the projections.

    Returns:
        (C, C) float32, symmetric.
    """
    channels, projections = latents.shape[1], 4
    total = torch.zeros(channels, channels)
    for part, counts in zip(latents.split(16), weight.split(16), strict=True):
        for _ in range(projections):
            free = part.detach().clone().requires_grad_()
            with torch.enable_grad():
                output = vae.decode(free).sample
            direction = torch.randn(output.shape, generator=generator) * counts.sqrt()
            (gradient,) = torch.autograd.grad(output, free, direction)  # (n, C, 16, 16)
            rows = gradient.movedim(1, -1).flatten(0, -2)  # (n * 256, C)
            total += rows.T @ rows
    return total / (projections * len(latents) * PLACES**2)


@torch.no_grad()
def scale_as_pixels(vae: AutoencoderKL, pool: Pool, settings: VaeSettings) -> None:
    """Mixes the latent channels so that a step in any direction changes the picture alike; reconstructions stay.

    A KL term makes all channels alike in variance, whatever they do to the picture, and a diffusion model then spends
    most of its effort on what hardly shows. The two 1x1 convolutions around the latents take up the symmetric root of
    the pixel metric and its inverse, the latents' mean goes into their biases, and the scaling factor gives them unit
    variance overall. The posterior's variance becomes the mean one of each new channel.

    Args:
        vae: a trained autoencoder, changed in place.
        pool: pictures to measure on.
        settings: how much each pixel counts.
    """
    images = pool.batch(torch.arange(len(pool))) * 2 - 1
    posteriors = [vae.encode(part).latent_dist for part in images.split(64)]
    latents = torch.cat([p.mean for p in posteriors])  # (N, C, 16, 16)
    variance = torch.cat([p.var for p in posteriors]).mean((0, 2, 3))  # (C,)
    few = min(_METRIC_PICTURES, len(pool))
    weight = importance(pool.boxes[:few], pool.landmarks[:few], settings)
    metric = pixel_metric(vae, latents[:few], weight, torch.Generator().manual_seed(settings.seed))
    values, vectors = torch.linalg.eigh(metric)
    root = values.clamp(min=_LEAST_SENSITIVITY * values.mean()).div(values.mean()).sqrt()  # (C,)
    mix, unmix = (vectors * root) @ vectors.T, (vectors / root) @ vectors.T  # (C, C) each
    mean, channels = latents.mean((0, 2, 3)), len(mix)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:channels] = (mix @ into.weight[:channels].flatten(1)).view_as(into.weight[:channels])
    into.bias[:channels] = mix @ (into.bias[:channels] - mean)
    into.weight[channels:] = 0
    into.bias[channels:] = (mix.square() @ variance).log()
    out.bias += out.weight.flatten(1) @ mean
    out.weight.copy_((out.weight.flatten(1) @ unmix).view_as(out.weight))
    scaled = torch.einsum("ij,njhw->nihw", mix, latents - mean[:, None, None])
    vae.register_to_config(scaling_factor=float(1 / scaled.std()))


def train_vae(settings: VaeSettings | None, assets: Path, work: Path, pool: Pool | None = None) -> dict[str, Any]:
    """Trains the VAE on generic people and saves it as ``assets/base/vae``; its loss needs the pack's recogniser.

    Args:
        settings: None for the defaults.
        assets: the folder of the world's models.
        work: where pools and checkpoints lie.
        pool: pictures to train on; None for the pool of generic people in ``work``.

    Returns:
        Steps, seconds and settings.

    Raises:
        BadFile: if the recogniser is not there and ``identity_weight`` is not 0.
    """
    settings = settings or VaeSettings()
    pictures = pool or generic_pool(folder=work)
    torch.manual_seed(settings.seed)
    vae = build_vae(settings)
    recogniser = load_recogniser(pack_folder(assets) / FILE) if settings.identity_weight else None

    def step(_: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(0, len(pictures), (settings.batch_size,), generator=generator)
        pixels = pictures.batch(rows) * 2 - 1
        weight = importance(pictures.boxes[rows], pictures.landmarks[rows], settings)
        loss, output = vae_loss(vae, pixels, weight, generator, settings)
        if recogniser is not None:
            landmarks = jitter(pictures.landmarks[rows], _LANDMARK_NOISE, generator)
            loss = loss + settings.identity_weight * identity_loss(recogniser, pixels, output, landmarks)
        return loss

    report = train(
        "vae",
        {"vae": vae},
        step,
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        ema_decay=settings.ema_decay,
        weight_decay=0.0,
        checkpoint=work / "checkpoints" / "vae",
        seed=settings.seed,
    )
    vae.eval()
    scale_as_pixels(vae, pictures.first(min(2048, len(pictures))), settings)
    with whole_folder(assets / "base" / "vae") as folder:
        vae.half().save_pretrained(folder)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump()}


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Pictures (N, 3, 64, 64) in [0, 1] through the VAE and back, without noise."""
    parts = [vae.decode(vae.encode(part * 2 - 1).latent_dist.mode()).sample for part in images.split(64)]
    return ((torch.cat(parts) + 1) / 2).clamp(0, 1)


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each pair of pictures (N, C, H, W) in [0, 1], (N,) in decibel."""
    return -10 * torch.log10((images - others).pow(2).mean((1, 2, 3)))


def verify_vae(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """How close reconstructions of fresh renders are, in pixels, to the face pack's recogniser and to the judge.

    The recogniser is in the VAE's loss, so its cosine alone would flatter; the judge has no part in the training.
    """
    vae = load_vae(assets)
    pool = fresh_pool(count or _COUNT, 1, seed)
    images = pool.batch(torch.arange(len(pool)))
    outputs = reconstruct(vae, images)
    before, after = embed_images(assets, images), embed_images(assets, outputs)  # (N, 512)
    found = before.norm(dim=1) > 0
    cosine = (before * after).sum(1)[found]
    rebuilt = replace(pool, images=outputs.mul(255).round().byte())
    judged = embed_aligned(judge_file(assets), pool) * embed_aligned(judge_file(assets), rebuilt)
    return [
        Bar("PSNR of reconstructed renders, dB", 30.0, float(psnr(images, outputs).mean())),
        Bar("recogniser's cosine between a render and its reconstruction", 0.95, float(cosine.mean())),
        Bar("the same by the judge, which the VAE never met", math.nan, float(judged.sum(1).mean())),
    ]


def load_vae(assets: Path) -> AutoencoderKL:
    """The base model's VAE in float32.

    Raises:
        BadFile: if its folder is missing or not whole.
    """
    folder = assets / "base" / "vae"
    check_model_folder(folder, "diffusion_pytorch_model.safetensors")
    vae: AutoencoderKL = AutoencoderKL.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return vae
