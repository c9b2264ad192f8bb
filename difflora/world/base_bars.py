"""The base model's bars: faces, prompts followed, diversity, and distance from fresh renders."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from difflora.world.bars import Bar
from difflora.world.captions import caption
from difflora.world.classifiers import ATTRIBUTES, load_classifiers
from difflora.world.classifiers import FOLDER as CLASSIFIERS
from difflora.world.faces.pack import embed_images
from difflora.world.frechet import frechet_distance
from difflora.world.generate import generate, load_base
from difflora.world.pool import Pool, fresh_pool
from difflora.world.vae import load_vae, reconstruct

_COUNT = 500


def verify_base(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """Draws a picture for each of ``count`` fresh prompts (500 for None) and measures them all."""
    pool = fresh_pool(count or _COUNT, 1, seed)
    prompts = caption(pool.people, pool.scenes, torch.Generator().manual_seed(seed))
    drawn = generate(load_base(assets), prompts, seed)  # (N, 3, 64, 64)
    embeddings = embed_images(assets, drawn)  # (N, 512)
    found = embeddings.norm(dim=1) > 0
    agreement = _agreement(assets, drawn, pool)
    return [
        Bar("pictures with a face", 0.95, float(found.float().mean())),
        Bar("prompt followed, mean of the attributes", 0.90, sum(agreement.values()) / len(agreement)),
        *(Bar(f"prompt followed: {name.replace('_', ' ')}", math.nan, value) for name, value in agreement.items()),
        Bar("mean cosine between different pictures", 0.25, _mean_cosine(embeddings[found]), at_least=False),
        *_distances(assets, drawn, pool, seed),
    ]


def _agreement(assets: Path, drawn: Tensor, pool: Pool) -> dict[str, float]:
    seen = load_classifiers(assets / CLASSIFIERS).predict(drawn)
    return {name: float((seen[name] == pool.scenes.index(name)).float().mean()) for name in ATTRIBUTES}


def _mean_cosine(embeddings: Tensor) -> float:
    """Mean over all pairs of different rows; embeddings (N, D) of unit length."""
    if len(embeddings) < 2:
        return math.nan
    cosine = embeddings @ embeddings.T
    return float((cosine.sum() - cosine.trace()) / (len(cosine) * (len(cosine) - 1)))


def _distances(assets: Path, drawn: Tensor, pool: Pool, seed: int) -> list[Bar]:
    """Fréchet distances, each against other fresh renders; the VAE's and the renders' own are its floors."""
    images = pool.batch(torch.arange(len(pool)))
    others = fresh_pool(len(pool), 1, seed + 1)
    reference = others.batch(torch.arange(len(others)))
    rebuilt = reconstruct(load_vae(assets), images)
    return [
        Bar("FID (self-supervised ViT) against fresh renders", math.nan, frechet_distance(assets, drawn, reference)),
        Bar("the same of the VAE's reconstructions: the floor", math.nan, frechet_distance(assets, rebuilt, reference)),
        Bar("the same of other renders", math.nan, frechet_distance(assets, images, reference)),
    ]
