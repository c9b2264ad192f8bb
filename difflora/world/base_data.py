"""What the base model learns from: latents and tokens of generic people, made once and kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTokenizer

from difflora.world.cached import cached
from difflora.world.captions import caption
from difflora.world.pool import Pool, generic_pool
from difflora.world.tokenizer import token_ids
from difflora.world.vae import PLACES

_CAPTION_SEED = 3
_SCENE_DROPOUT = 0.1
CAPTIONS_EACH = 4
"""Captions drawn for a picture: each names other traits, in other words."""


@dataclass(frozen=True)
class BaseData:
    """Latents and captions of N pictures.

    Attributes:
        latents: (N, C, 16, 16) float16, scaled to unit variance.
        boxes: (N, 4) float32, the faces' boxes in pixels.
        landmarks: (N, 5, 2) float32, x and y of eyes, nose and mouth corners in pixels.
        ids: (N, K, L) int16 tokens of K captions a picture.
        empty: (L,) int64 tokens of the empty prompt.
    """

    latents: Tensor
    boxes: Tensor
    landmarks: Tensor
    ids: Tensor
    empty: Tensor

    def draw(self, count: int, dropout: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random pictures' latents (B, C, 16, 16), boxes (B, 4), landmarks (B, 5, 2) and tokens (B, L) int64.

        Some captions are empty.
        """
        rows = torch.randint(0, len(self.latents), (count,), generator=generator)
        which = torch.randint(0, self.ids.shape[1], (count,), generator=generator)
        ids = self.ids[rows, which].long()  # (B, L)
        dropped = torch.rand(count, generator=generator) < dropout
        tokens = torch.where(dropped[:, None], self.empty, ids)
        return self.latents[rows].float(), self.boxes[rows], self.landmarks[rows], tokens


@torch.no_grad()
def make_latents(vae: AutoencoderKL, pool: Pool) -> Tensor:
    """A pool's pictures through the VAE's encoder, (N, C, 16, 16) float16, scaled to unit variance."""
    scale = float(vae.config.scaling_factor)
    latents = torch.empty(len(pool), vae.config.latent_channels, PLACES, PLACES, dtype=torch.float16)
    for rows in tqdm(torch.arange(len(pool)).split(64), desc="latents", unit="batch", disable=len(pool) <= 64):
        latents[rows] = (vae.encode(pool.batch(rows) * 2 - 1).latent_dist.mode() * scale).half()
    return latents


def make_prompts(tokenizer: CLIPTokenizer, pool: Pool, captions_each: int = CAPTIONS_EACH) -> Tensor:
    """Captions of a pool's pictures as tokens, (N, K, L) int16, seeded."""
    generator = torch.Generator().manual_seed(_CAPTION_SEED)
    ids = []
    for _ in tqdm(range(captions_each), desc="captions", unit="a picture", disable=len(pool) <= 64):
        sentences = caption(pool.people, pool.scenes, generator, scene_dropout=_SCENE_DROPOUT)
        ids.append(token_ids(tokenizer, sentences).short())
    return torch.stack(ids, dim=1)


def make_data(vae: AutoencoderKL, tokenizer: CLIPTokenizer, pool: Pool, captions_each: int = CAPTIONS_EACH) -> BaseData:
    """Encodes a pool's pictures and draws their captions."""
    prompts = make_prompts(tokenizer, pool, captions_each)
    return BaseData(make_latents(vae, pool), pool.boxes, pool.landmarks, prompts, token_ids(tokenizer, [""])[0])


def cached_data(vae: AutoencoderKL, tokenizer: CLIPTokenizer, work: Path) -> BaseData:
    """The generic pool's latents and captions, made once for this VAE and then read from ``work``."""
    pool = generic_pool(folder=work)
    weights = torch.cat([p.detach().flatten() for p in vae.parameters()]).numpy().tobytes()
    latents = cached(work, "latents", weights, lambda: {"latents": make_latents(vae, pool)})["latents"]
    prompts = cached_prompts(tokenizer, pool, work)
    return BaseData(latents, pool.boxes, pool.landmarks, prompts, token_ids(tokenizer, [""])[0])


def cached_prompts(tokenizer: CLIPTokenizer, pool: Pool, work: Path) -> Tensor:
    """The pool's captions as tokens, drawn once for these people and words and then read from ``work``."""
    sample = make_prompts(tokenizer, pool.first(16)).numpy().tobytes() + str(len(pool)).encode()
    return cached(work, "prompts", sample, lambda: {"prompts": make_prompts(tokenizer, pool)})["prompts"]
