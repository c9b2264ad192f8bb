"""Everything that is counted on the meta device for a plan, and depends on no assumption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from difflora.corpus.base import DTYPES
from difflora.corpus.many import ManyLoras
from difflora.lora import LoraLayout
from difflora.models import LoraAutoencoder, LoraTransformer
from difflora.plan.bases import Base, parameters, read_base
from difflora.plan.cost import Cost, count
from difflora.stages.params import Params

FACE_DIM, IMAGE_DIM = 512, 768
"""Lengths of InsightFace's and CLIP ViT-L/14's features; the embedded encoders' are shorter, which hardly matters."""
_TOKENS = 77


@dataclass(frozen=True)
class Counted:
    """Costs of one sample each.

    Attributes:
        base: the base model.
        layout: of the LoRAs.
        lae: the autoencoder.
        transformer: the diffusion transformer.
        unet: forward.
        unet_train: forward under a LoRA and backward to it.
        vae_encode: of a picture, in float32.
        vae_decode: likewise.
        vae_decode_train: likewise, forward and backward to its latents.
        lae_train: forward and backward, in the loop's precision.
        dit: forward, in the loop's precision.
        dit_train: forward and backward.
    """

    base: Base
    layout: LoraLayout
    lae: LoraAutoencoder
    transformer: LoraTransformer
    unet: Cost
    unet_train: Cost
    vae_encode: Cost
    vae_decode: Cost
    vae_decode_train: Cost
    lae_train: Cost
    dit: Cost
    dit_train: Cost

    @cached_property
    def lae_parameters(self) -> int:
        """Of the autoencoder."""
        return parameters(self.lae)

    @cached_property
    def dit_parameters(self) -> int:
        """Of the transformer."""
        return parameters(self.transformer)


def count_all(params: Params, root: Path) -> Counted:
    """Counts a parameter file's models; nothing is loaded.

    Args:
        params: all parameters.
        root: where relative folders begin.

    Raises:
        BadFile: if the base model's configuration is unknown.
        BadParameter: if LoRA targets or models do not fit.
    """
    chosen = params.corpus.dreambooth
    folder = root / params.models.base.folder
    base, layout, costs = _base(folder, params.models.base.name, chosen.targets, chosen.rank, chosen.precision)
    with torch.device("meta"):
        lae = LoraAutoencoder.build(layout, params.lae.model, params.lae.normalisation)
        transformer: LoraTransformer = LoraTransformer(
            lae.latent_size, FACE_DIM, IMAGE_DIM, params.dit.model.model_dump(mode="json")
        )
    dit = _dit(transformer, DTYPES[params.dit.loop.precision])
    return Counted(
        base,
        layout,
        lae,
        transformer,
        *costs,
        _lae(lae, DTYPES[params.lae.loop.precision]),
        dit(False),
        dit(True),
    )


@lru_cache(maxsize=8)
def _base(
    folder: Path, name: str, targets: tuple[str, ...], rank: int, precision: str
) -> tuple[Base, LoraLayout, tuple[Cost, Cost, Cost, Cost, Cost]]:
    """Counting SDXL's backward pass takes seconds; parameter files that share a base count it once."""
    base = read_base(folder, name)
    layout = LoraLayout.from_unet(base.unet, targets, rank)
    side, latent = base.side, base.latent_side
    pixels, latents = _meta(1, 3, side, side), _meta(1, base.vae.config.latent_channels, latent, latent)
    encode = count(lambda: base.vae.encode(pixels).latent_dist.mode(), base.vae)
    decode = count(lambda: base.vae.decode(latents).sample, base.vae)
    base.vae.requires_grad_(False)
    through = count(lambda: base.vae.decode(latents.requires_grad_()).sample, base.vae, backward=True)
    return base, layout, (*_unet(base, layout, DTYPES[precision]), encode, decode, through)


def _meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(*shape, device="meta", dtype=dtype)


def _unet(base: Base, layout: LoraLayout, dtype: torch.dtype) -> tuple[Cost, Cost]:
    unet: Any = base.unet
    nn.Module.to(unet, dtype)
    side = base.latent_side
    sample, time = _meta(1, unet.config.in_channels, side, side, dtype=dtype), _meta(1)
    prompt = _meta(1, _TOKENS, unet.config.cross_attention_dim, dtype=dtype)
    sizes = (
        {"text_embeds": _meta(1, base.text_width, dtype=dtype), "time_ids": _meta(1, 6)} if base.text_width else None
    )

    def run() -> Tensor:
        made: Tensor = unet(sample, time, encoder_hidden_states=prompt, added_cond_kwargs=sizes).sample
        return made

    plain = count(run, unet)
    flat = _meta(1, layout.size).requires_grad_()
    with ManyLoras(unet, layout, 1.0) as loras:
        loras.set(flat)
        return plain, count(run, unet, backward=True)


def _lae(lae: LoraAutoencoder, dtype: torch.dtype) -> Cost:
    """The networks and the linear path; normalisation and loss are a few passes over the row."""
    size, cost = lae.layout.size, Cost()
    if lae.settings.networks:
        networks = [lae.encoder.to(dtype), lae.decoder.to(dtype)]
        row = _meta(1, lae.places * lae.settings.stride, dtype=dtype)
        pair = nn.ModuleList(networks)
        cost += count(lambda: lae.decoder(lae.encoder(row)), pair, backward=True)
        pair.to(torch.float32)
    if lae.settings.linear_path:
        weights = 2 * size * lae.latent_size
        cost += Cost(flops=6.0 * weights, weight_bytes=3.0 * weights * dtype.itemsize)
    row_bytes = 4.0 * size
    return cost + Cost(bytes=12 * row_bytes, saved=cost.saved + 3 * row_bytes)


def _dit(transformer: LoraTransformer, dtype: torch.dtype) -> Callable[[bool], Cost]:
    def cost(backward: bool) -> Cost:
        nn.Module.to(transformer, dtype)  # diffusers' own warns of modules to keep in float32, of which there are none
        made = count(
            lambda: transformer(
                _meta(1, transformer.config.latent_size, dtype=dtype),
                torch.zeros(1, dtype=torch.int64, device="meta"),
                _meta(1, FACE_DIM, dtype=dtype),
                _meta(1, IMAGE_DIM, dtype=dtype),
            ),
            transformer,
            backward=backward,
        )
        nn.Module.to(transformer, torch.float32)
        return made

    return cost
