"""Token ids of several captions a picture, drawn once for a pool and kept on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTokenizer

from difflora.files import load_safetensors, save_safetensors
from difflora.world.captions import caption
from difflora.world.pool import Pool
from difflora.world.tokenizer import token_ids

VARIANTS = ((0.4, 0.0), (0.6, 0.15))
"""(trait_dropout, scene_dropout) of each caption of a picture: one whole, one that leaves things out."""

_CHUNK = 2000


def caption_ids(tokenizer: CLIPTokenizer, pool: Pool, seed: int) -> Tensor:
    """Draws a caption of each of ``VARIANTS`` for each picture, (N, variants, 64) int16 token ids."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.empty(len(pool), len(VARIANTS), tokenizer.model_max_length, dtype=torch.int16)
    for start in tqdm(range(0, len(pool), _CHUNK), desc="captions", unit="chunk", disable=len(pool) <= _CHUNK):
        rows = slice(start, start + _CHUNK)
        people, scenes = pool.people[rows], pool.scenes[rows]
        for i, (traits, parts) in enumerate(VARIANTS):
            sentences = caption(people, scenes, generator, trait_dropout=traits, scene_dropout=parts)
            ids[rows, i] = token_ids(tokenizer, sentences).short()
    return ids


def cached_caption_ids(tokenizer: CLIPTokenizer, pool: Pool, seed: int, folder: Path) -> Tensor:
    """The same, read from ``folder`` where they were written before for the same words, pool size and seed."""
    sample = caption_ids(tokenizer, pool.first(16), seed)
    facts = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode() + sample.numpy().tobytes())
    facts.update(f"{len(pool)} {seed} {VARIANTS}".encode())
    path = folder / f"captions-{facts.hexdigest()[:12]}.safetensors"
    if not path.exists():
        save_safetensors(path, {"ids": caption_ids(tokenizer, pool, seed)})
    return load_safetensors(path)["ids"]
