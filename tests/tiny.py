"""A tiny base model of SDXL's architecture, untrained but with every path awake."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionXLPipeline
from torch import nn

from difflora.world.base import BaseSettings, build_scheduler, build_unet
from difflora.world.text import TextSettings, build_text_encoders
from difflora.world.tokenizer import build_tokenizer
from difflora.world.vae import VaeSettings, build_vae

TEXT = TextSettings(width=(16, 32), layers=2, head_dim=16)


def wake(network: nn.Module) -> None:
    """Makes every path count: an untrained UNet's output barely depends on its attention."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)


def sdxl() -> StableDiffusionXLPipeline:
    """The same one each time."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    first, second = build_text_encoders(TEXT, tokenizer)
    unet = build_unet(BaseSettings(channels=(32, 32), head_dim=16), 4, TEXT.width)
    wake(unet)
    return StableDiffusionXLPipeline(
        vae=build_vae(VaeSettings(latent_channels=4, channels=(8, 8, 16))),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
