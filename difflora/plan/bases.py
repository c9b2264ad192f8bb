"""The base model's networks on the meta device, by its configuration: from its folder, or built in where public."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from difflora.errors import BadFile
from difflora.folders import read_json
from difflora.weights.networks import meta_network

Config = Mapping[str, Any]

_VAE: Config = MappingProxyType(
    {
        "_class_name": "AutoencoderKL",
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
    }
)
_CLIP_L: Config = MappingProxyType(
    {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "architectures": ["CLIPTextModel"],
    }
)
_BIG_G: Config = MappingProxyType(
    {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "architectures": ["CLIPTextModelWithProjection"],
    }
)
_SDXL: Config = MappingProxyType(
    {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 128,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
)
_SD15: Config = MappingProxyType(
    {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    }
)

BUILT_IN: Mapping[str, tuple[Config, Config, tuple[Config, ...]]] = MappingProxyType(
    {
        "stabilityai/stable-diffusion-xl-base-1.0": (_SDXL, _VAE, (_CLIP_L, _BIG_G)),
        "stable-diffusion-v1-5/stable-diffusion-v1-5": (_SD15, _VAE, (_CLIP_L,)),
    }
)
"""Name on the hub -> configurations of UNet, VAE and text encoders, for a plan before anything is fetched."""


@dataclass(frozen=True)
class Base:
    """A base model without weights.

    Attributes:
        source: where its configuration is from.
        unet: on the meta device.
        vae: on the meta device.
        text_parameters: of its text encoders.
        text_width: W2 of the pooled embedding, 0 where the UNet takes none.
    """

    source: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_parameters: int
    text_width: int

    @property
    def latent_side(self) -> int:
        """Of the latents that it was trained on."""
        return int(self.unet.config.sample_size)

    @property
    def side(self) -> int:
        """Of the pictures that it was trained on, in pixels."""
        return int(self.latent_side * 2 ** (len(self.vae.config.block_out_channels) - 1))

    @cached_property
    def unet_parameters(self) -> int:
        """Of the UNet."""
        return parameters(self.unet)

    @cached_property
    def parameters(self) -> int:
        """Of everything."""
        return self.unet_parameters + parameters(self.vae) + self.text_parameters


def read_base(folder: Path, name: str) -> Base:
    """The networks of a base model.

    Args:
        folder: of a diffusers pipeline; only its configurations are read.
        name: as parameters call it, for those that are built in.

    Raises:
        BadFile: if the folder has no configurations and the name is not built in, or they describe no such networks.
    """
    unet: Config
    vae: Config
    texts: tuple[Config, ...]
    if (folder / "unet" / "config.json").is_file():
        unet, vae = (read_json(folder / part / "config.json") for part in ("unet", "vae"))
        texts = tuple(
            read_json(folder / part / "config.json")
            for part in ("text_encoder", "text_encoder_2")
            if (folder / part / "config.json").is_file()
        )
        source = str(folder)
    elif name in BUILT_IN:
        (unet, vae, texts), source = BUILT_IN[name], "built in"
    else:
        raise BadFile(
            f"{folder / 'unet' / 'config.json'}: no such file, and {name!r} is not built in "
            f"({', '.join(BUILT_IN)} are): give a base model's folder, its configurations are enough"
        )
    made, autoencoder, *encoders = (
        meta_network(config, f"{source}: {part}")
        for part, config in zip(("unet", "vae", "text_encoder", "text_encoder_2"), (unet, vae, *texts), strict=False)
    )
    if not isinstance(made, UNet2DConditionModel) or not isinstance(autoencoder, AutoencoderKL):
        raise BadFile(f"{source}: its unet is a {type(made).__name__}, its vae a {type(autoencoder).__name__}")
    for network in (made, autoencoder):
        network.requires_grad_(False)
    pooled = made.config.addition_embed_type == "text_time"
    width = made.config.projection_class_embeddings_input_dim - 6 * made.config.addition_time_embed_dim if pooled else 0
    return Base(source, made, autoencoder, sum(map(parameters, encoders)), width)


def parameters(network: nn.Module) -> int:
    """How many it has."""
    return sum(parameter.numel() for parameter in network.parameters())
