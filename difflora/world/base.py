"""The base model: a small ``StableDiffusionXLPipeline`` trained on generic people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from difflora.folders import whole_folder
from difflora.world.base_data import BaseData, cached_data
from difflora.world.loop import train
from difflora.world.render import SIZE
from difflora.world.residual import zero_residual_branches
from difflora.world.text import encode_tokens, load_text_encoders
from difflora.world.tokenizer import build_tokenizer
from difflora.world.vae import FACTOR, PLACES, load_vae

FOLDER = "base"
TRAIN_STEPS = 1000


class BaseSettings(BaseModel):
    """How the base model is built and trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, ...] = Field(
        (64, 128, 128), min_length=2, description="of the UNet's levels, from 16 x 16 latents"
    )
    layers_per_block: int = Field(1, ge=1)
    head_dim: int = Field(32, ge=8, description="width of an attention head")
    steps: int = Field(8000, ge=1)
    batch_size: int = Field(48, ge=1)
    bf16: bool = Field(
        False, description="mixed precision; 1.5 times as fast on a CPU with AVX512-BF16, 13 times as slow without"
    )
    lr: float = Field(5e-4, gt=0)
    muon_lr: float = Field(0.005, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    face_weight: float = Field(2.0, ge=0, description="how much more an error inside the face's box counts")
    feature_weight: float = Field(6.0, ge=0, description="how much more an error at eyes, nose and mouth counts")
    snr_cap: float = Field(5.0, gt=0, description="above this signal-to-noise ratio a timestep counts less")
    prompt_dropout: float = Field(0.1, ge=0, le=1, description="prompts left empty, for guidance")
    seed: int = 12


def build_unet(settings: BaseSettings, latent_channels: int, text_width: tuple[int, int]) -> UNet2DConditionModel:
    """An untrained UNet of SDXL's form.

    No attention on its first level, linear projections, and ``text_time`` conditioning on pooled text and sizes. As in
    the VAE, all channels are normalised together and residual branches start at zero.
    """
    levels, time_width = len(settings.channels), 32
    unet = UNet2DConditionModel(
        sample_size=PLACES,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (levels - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (levels - 1), "UpBlock2D"),
        block_out_channels=settings.channels,
        layers_per_block=settings.layers_per_block,
        transformer_layers_per_block=1,
        attention_head_dim=tuple(c // settings.head_dim for c in settings.channels),  # SDXL's name for their number
        cross_attention_dim=sum(text_width),
        use_linear_projection=True,
        norm_num_groups=1,
        addition_embed_type="text_time",
        addition_time_embed_dim=time_width,
        projection_class_embeddings_input_dim=text_width[1] + 6 * time_width,
    )
    zero_residual_branches(unet)
    return unet


def build_scheduler() -> DDIMScheduler:
    """SDXL's betas rescaled to zero terminal SNR, v-prediction, trailing steps."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def size_ids(count: int) -> Tensor:
    """SDXL's micro-conditioning for whole pictures: original size, crop corner, target size; (N, 6) float32."""
    return torch.tensor([SIZE, SIZE, 0, 0, SIZE, SIZE], dtype=torch.float32).expand(count, 6)


def spread_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """One random timestep in each of ``count`` equal parts of the schedule, (N,) int64."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (places * TRAIN_STEPS).long().clamp(max=TRAIN_STEPS - 1)


def velocity_loss(
    unet: nn.Module,
    scheduler: DDIMScheduler,
    latents: Tensor,
    embeddings: tuple[Tensor, Tensor],
    generator: torch.Generator,
    weight: Tensor | None = None,
    snr_cap: float | None = None,
) -> Tensor:
    """Mean squared error of the predicted velocity.

    Args:
        unet: the UNet.
        scheduler: gives noise levels.
        latents: (N, C, 16, 16) float32, scaled.
        embeddings: prompt embeddings (N, L, W) and pooled embeddings (N, P).
        generator: draws noise and timesteps.
        weight: (N, 1, 16, 16) how much an error counts at each place; None for all alike. It moves the network's
            effort, not the minimum: that is the conditional mean at each place, whatever the weights.
        snr_cap: weighs a timestep by (min(SNR, snr_cap) + 1) / (SNR + 1), brought to a mean of 1 over the schedule;
            None for all alike. As min-SNR weighting (arXiv 2303.09556), but pure noise, where SNR is 0, counts.
    """
    prompt, pooled = embeddings
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = spread_timesteps(len(latents), generator)
    noisy = scheduler.add_noise(latents, noise, timesteps)  # (N, C, 16, 16)
    target = scheduler.get_velocity(latents, noise, timesteps)  # (N, C, 16, 16)
    conditions = {"text_embeds": pooled, "time_ids": size_ids(len(latents))}
    output = unet(noisy, timesteps, encoder_hidden_states=prompt, added_cond_kwargs=conditions).sample
    error: Tensor = (output.float() - target).pow(2)  # (N, C, 16, 16)
    if snr_cap is not None:
        snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)  # (T,)
        share = (snr.clamp(max=snr_cap) + 1) / (snr + 1)
        error = error * (share / share.mean())[timesteps, None, None, None]
    return error.mean() if weight is None else (error * weight).mean()


def face_weights(boxes: Tensor, landmarks: Tensor, face_weight: float, feature_weight: float) -> Tensor:
    """How much a latent counts: 1, more where the face's box covers it, and most at its features; the mean is 1.

    Args:
        boxes: (N, 4) in pixels.
        landmarks: (N, 5, 2) in pixels; around each lies a bell as wide as an eighth of the box.
        face_weight: the addition inside the box.
        feature_weight: the addition on a landmark.

    Returns:
        (N, 1, 16, 16) float32.
    """
    cells = torch.arange(PLACES) * float(FACTOR)
    reach = (boxes[:, :, None] - cells).clamp(0, FACTOR) / FACTOR  # (N, 4, 16) how far into each cell an edge lies
    across, down = (reach[:, 2:] - reach[:, :2]).unbind(1)  # (N, 16) each
    covered = down[:, :, None] * across[:, None, :]  # (N, 16, 16)
    centres = cells + FACTOR / 2
    apart = (landmarks[:, :, :, None] - centres).square()  # (N, 5, 2, 16) by x and by y
    distance = apart[:, :, 1, :, None] + apart[:, :, 0, None, :]  # (N, 5, 16, 16) squared
    wide = (boxes[:, 2] - boxes[:, 0]).clamp(min=1) / 8  # (N,)
    features = (-distance / (2 * wide.square()[:, None, None, None])).exp().amax(1)  # (N, 16, 16)
    weight = 1 + face_weight * covered + feature_weight * features
    return (weight / weight.mean())[:, None]


@contextmanager
def _precision(bf16: bool) -> Iterator[None]:
    """Mixed precision, with plain attention: the flash kernel's backward pass is slow in bf16 on a CPU."""
    if not bf16:
        yield
        return
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def train_base(settings: BaseSettings | None, assets: Path, work: Path, data: BaseData | None = None) -> dict[str, Any]:
    """Trains the UNet on latents of the VAE and under the text encoders in ``assets/base``; saves the whole pipeline.

    Args:
        settings: None for the defaults.
        assets: the folder of the world's models.
        work: where pools, latents and checkpoints lie.
        data: latents and tokens to train on; None for those of the pool of generic people.

    Returns:
        Steps, seconds and settings.

    Raises:
        BadFile: if the VAE or a text encoder is missing.
    """
    settings = settings or BaseSettings()
    vae = load_vae(assets)
    first, second = load_text_encoders(assets)
    tokenizer = build_tokenizer()
    data = data or cached_data(vae, tokenizer, work)
    torch.manual_seed(settings.seed)
    text_width = (first.config.hidden_size, second.config.projection_dim)
    # Channels last: a step took 0.85 of the time on a CPU with AVX2; compiling the UNet gained nothing there.
    unet = build_unet(settings, vae.config.latent_channels, text_width).to(memory_format=torch.channels_last)
    scheduler = build_scheduler()

    def step(_: int, generator: torch.Generator) -> Tensor:
        latents, boxes, landmarks, ids = data.draw(settings.batch_size, settings.prompt_dropout, generator)
        weight = face_weights(boxes, landmarks, settings.face_weight, settings.feature_weight)
        with torch.no_grad():
            embeddings = encode_tokens(first, second, ids)
        with _precision(settings.bf16):
            return velocity_loss(unet, scheduler, latents, embeddings, generator, weight, settings.snr_cap)

    report = train(
        "base",
        {"unet": unet},
        step,
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        ema_decay=settings.ema_decay,
        weight_decay=0.01,
        checkpoint=work / "checkpoints" / "base",
        seed=settings.seed,
    )
    # diffusers reads float16 files as float32; transformers keeps the type it finds, so text encoders stay float32.
    pipeline = StableDiffusionXLPipeline(
        vae=vae.half(),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet.half().to(memory_format=torch.contiguous_format),
        scheduler=scheduler,
        force_zeros_for_empty_prompt=False,  # dropped prompts are empty ones in training, not zeros
        add_watermarker=False,
    )
    with whole_folder(assets / FOLDER) as folder:
        pipeline.save_pretrained(folder)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(mode="json")}
