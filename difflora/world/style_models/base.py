"""The style base: a small ``StableDiffusionPipeline`` of SD 1.5's form, which draws people in many styles.

It stands on the world's VAE and first text encoder, which its folder links to, so that they are stored once.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from difflora.folders import whole_folder
from difflora.world.base import FOLDER as SDXL_FOLDER
from difflora.world.base import build_scheduler, face_weights, precision, velocity_loss
from difflora.world.base_data import BaseData
from difflora.world.loop import train
from difflora.world.residual import zero_residual_branches
from difflora.world.style_models.data import cached_style_data
from difflora.world.text import load_text_encoders
from difflora.world.tokenizer import build_tokenizer
from difflora.world.vae import PLACES, load_vae

FOLDER = "style/base"
LINKED = ("vae", "text_encoder", "tokenizer")
"""Parts that are those of ``base``, as links."""


class StyleBaseSettings(BaseModel):
    """How the style base is built and trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, ...] = Field((48, 64, 64), min_length=2, description="of the UNet's levels, from 16 x 16")
    layers_per_block: int = Field(1, ge=1)
    heads: int = Field(2, ge=1, description="of every attention, as SD 1.5 has 8")
    steps: int = Field(3200, ge=1)
    batch_size: int = Field(32, ge=1)
    bf16: bool = Field(False, description="mixed precision, where the CPU has AVX512-BF16")
    lr: float = Field(5e-4, gt=0)
    muon_lr: float = Field(0.005, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    face_weight: float = Field(1.0, ge=0, description="how much more an error inside the face's box counts")
    feature_weight: float = Field(3.0, ge=0, description="how much more an error at eyes, nose and mouth counts")
    snr_cap: float = Field(5.0, gt=0, description="above this signal-to-noise ratio a timestep counts less")
    mode_scale: float = Field(0.4, ge=-1, le=1.75, description="how much oftener middle timesteps are drawn")
    prompt_dropout: float = Field(0.1, ge=0, le=1, description="prompts left empty, for guidance")
    seed: int = 16


def build_style_unet(settings: StyleBaseSettings, latent_channels: int, text_width: int) -> UNet2DConditionModel:
    """An untrained UNet of SD 1.5's form: attention on all levels but the last, projections as 1x1 convolutions.

    As in the world's other models, all channels are normalised together and residual branches start at zero.

    Args:
        settings: sizes.
        latent_channels: of the VAE.
        text_width: width of the text encoder.
    """
    deeper = len(settings.channels) - 1
    unet = UNet2DConditionModel(
        sample_size=PLACES,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=(*("CrossAttnDownBlock2D",) * deeper, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * deeper),
        block_out_channels=settings.channels,
        layers_per_block=settings.layers_per_block,
        attention_head_dim=settings.heads,  # SD 1.5's name for their number
        cross_attention_dim=text_width,
        norm_num_groups=1,
    )
    zero_residual_branches(unet)
    return unet


def train_style_base(
    settings: StyleBaseSettings | None, assets: Path, work: Path, data: BaseData | None = None
) -> dict[str, Any]:
    """Trains the UNet on latents of the world's VAE under its first text encoder, and saves the pipeline.

    Args:
        settings: None for the defaults.
        assets: the folder of the world's models; ``base`` must be there.
        work: where latents and the checkpoint lie.
        data: latents and tokens to train on; None for those of styled people.

    Returns:
        Steps, seconds and settings.

    Raises:
        BadFile: if the VAE or the text encoder is missing.
    """
    settings = settings or StyleBaseSettings()
    vae, (text, _), tokenizer = load_vae(assets), load_text_encoders(assets), build_tokenizer()
    data = data or cached_style_data(vae, tokenizer, work)
    scheduler = build_scheduler()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        unet = build_style_unet(settings, vae.config.latent_channels, text.config.hidden_size)
    unet.to(memory_format=torch.channels_last)

    def step(_: int, generator: torch.Generator) -> Tensor:
        latents, boxes, landmarks, ids = data.draw(settings.batch_size, settings.prompt_dropout, generator)
        weight = face_weights(boxes, landmarks, settings.face_weight, settings.feature_weight)
        with torch.no_grad():
            prompt = text(ids).last_hidden_state  # (B, L, W)
        with precision(settings.bf16):
            return velocity_loss(
                unet, scheduler, latents, (prompt, None), generator, weight, settings.snr_cap, settings.mode_scale
            )

    report = train(
        "style-base",
        {"unet": unet},
        step,
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        ema_decay=settings.ema_decay,
        weight_decay=0.01,
        checkpoint=work / "checkpoints" / "style-base",
        seed=settings.seed,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet.half().to(memory_format=torch.contiguous_format),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with whole_folder(assets / FOLDER) as folder:
        pipeline.save_pretrained(folder)
        up = Path(*[".."] * len(Path(FOLDER).parts))
        for part in LINKED:
            shutil.rmtree(folder / part)
            (folder / part).symlink_to(up / SDXL_FOLDER / part, target_is_directory=True)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(mode="json")}
