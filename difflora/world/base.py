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

from difflora.cover import box_cover, feature_cover
from difflora.folders import whole_folder
from difflora.timesteps import spread_timesteps
from difflora.world.base_data import BaseData, cached_data
from difflora.world.loop import TrainReport, train
from difflora.world.render import SIZE
from difflora.world.residual import zero_residual_branches
from difflora.world.text import encode_tokens, load_text_encoders
from difflora.world.tokenizer import build_tokenizer
from difflora.world.vae import PLACES, load_vae

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
    first_steps: int = Field(4000, ge=1, description="without attention on the first level: a third less work each")
    steps: int = Field(4400, ge=1, description="with it, from the weights of the first steps")
    batch_size: int = Field(48, ge=1)
    bf16: bool = Field(
        False, description="mixed precision; 1.5 times as fast on a CPU with AVX512-BF16, 13 times as slow without"
    )
    lr: float = Field(5e-4, gt=0)
    muon_lr: float = Field(0.005, gt=0)
    later_lr: float = Field(0.5, gt=0, le=1, description="what both rates are multiplied by after the first steps")
    ema_decay: float = Field(0.999, ge=0, lt=1)
    face_weight: float = Field(2.0, ge=0, description="how much more an error inside the face's box counts")
    feature_weight: float = Field(6.0, ge=0, description="how much more an error at eyes, nose and mouth counts")
    snr_cap: float = Field(5.0, gt=0, description="above this signal-to-noise ratio a timestep counts less")
    mode_scale: float = Field(
        0.8, ge=-1, le=1.75, description="how much oftener middle timesteps are drawn; 0 is evenly"
    )
    prompt_dropout: float = Field(0.1, ge=0, le=1, description="prompts left empty, for guidance")
    seed: int = 12


def build_unet(
    settings: BaseSettings, latent_channels: int, text_width: tuple[int, int], *, first_attention: bool = True
) -> UNet2DConditionModel:
    """An untrained UNet of SDXL's form.

    Linear projections, and ``text_time`` conditioning on pooled text and sizes. Its first level has attention, as SD
    1.5's has and SDXL's has not: a face is seven latents wide, and LoRAs of attention must reach its features. As in
    the VAE, all channels are normalised together and residual branches start at zero.

    Args:
        settings: sizes.
        latent_channels: of the VAE.
        text_width: width of the first text encoder, and of the second one's projection.
        first_attention: False leaves attention away from the first level.
    """
    levels, time_width = len(settings.channels), 32
    first = "CrossAttn" * first_attention
    unet = UNet2DConditionModel(
        sample_size=PLACES,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=(f"{first}DownBlock2D", *("CrossAttnDownBlock2D",) * (levels - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (levels - 1), f"{first}UpBlock2D"),
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


def velocity_loss(
    unet: nn.Module,
    scheduler: DDIMScheduler,
    latents: Tensor,
    embeddings: tuple[Tensor, Tensor | None],
    generator: torch.Generator,
    weight: Tensor | None = None,
    snr_cap: float | None = None,
    mode_scale: float = 0.0,
) -> Tensor:
    """Mean squared error of the predicted velocity.

    Args:
        unet: the UNet.
        scheduler: gives noise levels.
        latents: (N, C, 16, 16) float32, scaled.
        embeddings: prompt embeddings (N, L, W), and pooled embeddings (N, P) where the UNet takes them.
        generator: draws noise and timesteps.
        weight: (N, 1, 16, 16) how much an error counts at each place; None for all alike. It moves the network's
            effort, not the minimum: that is the conditional mean at each place, whatever the weights.
        snr_cap: weighs a timestep by (min(SNR, snr_cap) + 1) / (SNR + 1), brought to a mean of 1 over the schedule;
            None for all alike. As min-SNR weighting (arXiv 2303.09556), but pure noise, where SNR is 0, counts.
        mode_scale: see ``spread_timesteps``.
    """
    prompt, pooled = embeddings
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = spread_timesteps(len(latents), TRAIN_STEPS, generator, mode_scale)
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
    covered = box_cover(boxes, (SIZE, SIZE), (PLACES, PLACES))  # (N, 16, 16)
    features = feature_cover(landmarks, boxes, (SIZE, SIZE), (PLACES, PLACES))  # (N, 16, 16)
    weight = 1 + face_weight * covered + feature_weight * features
    return (weight / weight.mean())[:, None]


@contextmanager
def precision(bf16: bool) -> Iterator[None]:
    """A context of mixed precision, with plain attention: the flash kernel's backward pass is slow in bf16 on a CPU."""
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
    scheduler = build_scheduler()

    def phase(name: str, unet: UNet2DConditionModel, steps: int, rate: float) -> TrainReport:
        def step(_: int, generator: torch.Generator) -> Tensor:
            latents, boxes, landmarks, ids = data.draw(settings.batch_size, settings.prompt_dropout, generator)
            weight = face_weights(boxes, landmarks, settings.face_weight, settings.feature_weight)
            with torch.no_grad():
                embeddings = encode_tokens(first, second, ids)
            with precision(settings.bf16):
                return velocity_loss(
                    unet, scheduler, latents, embeddings, generator, weight, settings.snr_cap, settings.mode_scale
                )

        return train(
            name,
            {"unet": unet},
            step,
            steps=steps,
            lr=settings.lr * rate,
            muon_lr=settings.muon_lr * rate,
            ema_decay=settings.ema_decay,
            weight_decay=0.01,
            checkpoint=work / "checkpoints" / name,
            seed=settings.seed,
        )

    def build(first_attention: bool) -> UNet2DConditionModel:
        # Channels last: a step took 0.85 of the time on a CPU with AVX2; compiling the UNet gained nothing there.
        unet = build_unet(settings, vae.config.latent_channels, text_width, first_attention=first_attention)
        return unet.to(memory_format=torch.channels_last)

    start, unet = build(first_attention=False), build(first_attention=True)
    reports = [phase("base-first", start, settings.first_steps, 1.0)]
    if reports[0].steps == settings.first_steps:  # not stopped by a time limit
        unet.load_state_dict(unet.state_dict() | start.state_dict())
        reports.append(phase("base", unet, settings.steps, settings.later_lr))
    else:
        unet = start
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
    return {
        "steps": sum(report.steps for report in reports),
        "seconds": sum(report.seconds for report in reports),
        "settings": settings.model_dump(mode="json"),
    }
