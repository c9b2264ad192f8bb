"""A tiny SDXL on disk, whose attention counts though it is not trained, and a LoRA for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from difflora.corpus.base import FrozenBase
from difflora.lora import LoraLayout, LoraWeights
from difflora.world.base import BaseSettings, build_scheduler, build_unet
from difflora.world.text import TextSettings, build_text_encoders
from difflora.world.tokenizer import build_tokenizer
from difflora.world.vae import VaeSettings, build_vae

TEXT = TextSettings(width=(16, 32), layers=2, head_dim=16)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a diffusers folder."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    first, second = build_text_encoders(TEXT, tokenizer)
    unet = build_unet(BaseSettings(channels=(32, 32), head_dim=16), 4, TEXT.width)
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) / parameter[0].numel() ** 0.5)
    StableDiffusionXLPipeline(
        vae=build_vae(VaeSettings(latent_channels=4, channels=(8, 8, 16))),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def base(base_folder: Path) -> FrozenBase:
    """The tiny model, frozen."""
    return FrozenBase.open(base_folder, "tiny")


@pytest.fixture
def lora(base: FrozenBase) -> LoraWeights:
    """A LoRA that is seen in pictures; alpha is not the rank."""
    layout = LoraLayout.from_unet(base.unet, ["attention", "feed_forward"], 3)
    flat = 0.3 * torch.randn(layout.size, generator=torch.Generator().manual_seed(1))
    return LoraWeights(layout, flat, base.name, alpha=4.5, scale=0.8)
