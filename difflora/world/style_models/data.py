"""What the style base learns from: latents and tokens of people in many styles, made once and kept on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTokenizer

from difflora.world.base_data import CAPTIONS_EACH, BaseData
from difflora.world.cached import cached
from difflora.world.captions import caption
from difflora.world.render import render
from difflora.world.scenes import sample_scenes
from difflora.world.styles import Styles, apply_styles, sample_styles
from difflora.world.tokenizer import token_ids
from difflora.world.traits import sample_people
from difflora.world.vae import PLACES

STYLE_SEED = 6
"""Of the training pictures; bars are measured on other seeds."""

_COUNT = 12_000
_BATCH = 64
_PLAIN, _NAMED, _SCENE_DROPOUT = 0.4, 0.6, 0.1


def in_style(kind: str, sentence: str) -> str:
    """A caption that says how the picture is drawn."""
    return f"{kind} style, {sentence}"


@torch.no_grad()
def make_style_data(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, count: int = _COUNT, captions_each: int = CAPTIONS_EACH
) -> BaseData:
    """Draws people, most of them in a random style, encodes them and says what they show.

    Two fifths are as the renderer draws them. Of the others' captions three fifths name the kind of style, and the rest
    leave it open, as captions of pictures from anywhere do.

    Args:
        vae: the world's.
        tokenizer: the world's.
        count: of pictures.
        captions_each: of each picture.
    """
    generator = torch.Generator().manual_seed(STYLE_SEED)
    latents = torch.empty(count, vae.config.latent_channels, PLACES, PLACES, dtype=torch.float16)
    boxes, landmarks = torch.empty(count, 4), torch.empty(count, 5, 2)
    ids = torch.empty(count, captions_each, tokenizer.model_max_length, dtype=torch.int16)
    for rows in tqdm(torch.arange(count).split(_BATCH), desc="styled pictures", unit="batch", disable=count <= _BATCH):
        people, scenes = sample_people(len(rows), generator), sample_scenes(len(rows), generator)
        styles, plain = sample_styles(len(rows), generator), torch.rand(len(rows), generator=generator) < _PLAIN
        drawn = render(people, scenes)
        images = torch.where(plain[:, None, None, None], drawn.images, apply_styles(drawn.images, styles, generator))
        latents[rows] = (vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor).half()
        boxes[rows], landmarks[rows] = drawn.boxes, drawn.landmarks
        for number in range(captions_each):
            said = caption(people, scenes, generator, scene_dropout=_SCENE_DROPOUT)
            named = (torch.rand(len(rows), generator=generator) < _NAMED) & ~plain
            ids[rows, number] = token_ids(tokenizer, _named(said, styles, named)).short()
    return BaseData(latents, boxes, landmarks, ids, token_ids(tokenizer, [""])[0])


def _named(sentences: list[str], styles: Styles, named: Tensor) -> list[str]:
    kinds = styles.names("kind")
    return [
        in_style(kind, said) if there else said
        for kind, said, there in zip(kinds, sentences, named.tolist(), strict=True)
    ]


def cached_style_data(vae: AutoencoderKL, tokenizer: CLIPTokenizer, work: Path) -> BaseData:
    """The same, made once for this VAE, these words and what renderer and kinds draw, then read from ``work``."""
    sample = make_style_data(vae, tokenizer, _BATCH, 1)
    facts = sample.latents.numpy().tobytes() + sample.ids.numpy().tobytes() + str(_COUNT).encode()

    def make() -> dict[str, Tensor]:
        made = make_style_data(vae, tokenizer)
        return {"latents": made.latents, "boxes": made.boxes, "landmarks": made.landmarks, "ids": made.ids}

    read = cached(work, "styles", facts, make)
    return BaseData(read["latents"], read["boxes"], read["landmarks"], read["ids"], sample.empty)
