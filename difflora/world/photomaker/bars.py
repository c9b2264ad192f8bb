"""PhotoMaker's bars: are its pictures of a person, and does it draw what the prompt asks for?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.recogniser import FaceRecogniser, Pixels
from difflora.photomaker.drawing import PhotoMaker
from difflora.photomaker.file import PhotoMakerFile
from difflora.photomaker.settings import DrawingSettings
from difflora.world import GUIDANCE, STEPS
from difflora.world.bars import Bar
from difflora.world.captions import CLASS_WORD, caption
from difflora.world.faces.pack import open_encoder
from difflora.world.generate import generate, load_base
from difflora.world.judge import judge_file
from difflora.world.photomaker.training import photomaker_file
from difflora.world.pool import fresh_pool

MARGIN = 0.1
"""How far above the base's the likeness must be: five times its standard error at the full size."""

_PEOPLE, _REAL, _PROMPTS = 40, 6, 4


def verify_photomaker(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """Draws fresh people from one render each, four prompts a person, with PhotoMaker and with the base alone.

    Likeness is the cosine to the mean of the person's other renders, by the independent recogniser and by the pack's; a
    picture without a face counts as 0.

    Args:
        assets: folder of the embedded world's assets.
        seed: seed of people, scenes and prompts.
        count: pictures; None for 160.
    """
    people = _PEOPLE if count is None else max(2, count // _PROMPTS)
    pool = fresh_pool(people, 1 + _REAL, seed)
    first = torch.arange(people) * (1 + _REAL)
    real = (first[:, None] + torch.arange(1, 1 + _REAL)).flatten()  # (P * 6,)
    asked = first.repeat_interleave(_PROMPTS)  # (P * 4,)
    scenes = fresh_pool(len(asked), 1, seed + 1).scenes
    prompts = caption(pool.people[asked], scenes, torch.Generator().manual_seed(seed), trait_dropout=1.0)
    pipeline = load_base(assets)
    plain = generate(pipeline, prompts, seed)  # (P * 4, 3, 64, 64)
    # From the first step on: this base decides hair and skin in the first two.
    settings = DrawingSettings(
        steps=STEPS, guidance_scale=GUIDANCE, sampler="own", start_merge_step=0, batch_size=_PROMPTS
    )
    drawn = []
    with PhotoMaker(pipeline, PhotoMakerFile.open(photomaker_file(assets)), settings) as maker:
        for person, row in enumerate(first.tolist()):
            known = maker.look([Image.fromarray(pool.images[row].permute(1, 2, 0).numpy())])
            here = slice(person * _PROMPTS, (person + 1) * _PROMPTS)
            marked = [CLASS_WORD.sub(r"\1 img", prompt, count=1) for prompt in prompts[here]]
            drawn.append(maker.draw(known, marked, list(range(seed, seed + len(prompts)))[here]))
    kinds = [pool.images[real], plain.mul(255).round().byte(), torch.cat(drawn).mul(255).round().byte()]
    rows = []
    for name, goal, (renders, base, made) in _embedded(assets, kinds):
        centres = F.normalize(renders.view(people, _REAL, -1).mean(dim=1))  # (P, D)
        likeness = [_likeness(one, centres) for one in (renders, base, made)]
        stranger = _likeness(made, centres.roll(1, 0))
        best = likeness[1] + MARGIN if goal else math.nan
        rows += [
            Bar(f"PhotoMaker: cosine to the person, {name}; the base's and {MARGIN:g}", best, likeness[2]),
            Bar(f"the base's, {name}", math.nan, likeness[1]),
            Bar(f"PhotoMaker's to another person, {name}", math.nan, stranger),
            Bar(f"the person's renders, {name}", math.nan, likeness[0]),
        ]
    return rows


def _likeness(embeddings: Tensor, centres: Tensor) -> float:
    """Mean cosine of each person's pictures (P * K, D) to that person's centre (P, D)."""
    each = embeddings.view(len(centres), -1, embeddings.shape[1])  # (P, K, D)
    return float((each @ centres[:, :, None]).mean())


def _embedded(assets: Path, kinds: Sequence[Tensor]) -> list[tuple[str, bool, list[Tensor]]]:
    """Embeddings of pictures by both recognisers, aligned by the pack's detector: name, whether it has a goal."""
    pack = open_encoder(assets)
    judge = FaceRecogniser.open(judge_file(assets))
    crops, found = [], []
    for images in kinds:
        seen: list[Pixels] = []
        there = torch.zeros(len(images), dtype=torch.bool)
        for i, image in enumerate(images):
            pixels = image.permute(1, 2, 0).contiguous().numpy()
            if faces := pack.faces(pixels):
                there[i] = True
                seen.append(pack.crop(pixels, faces[0]))
        crops.append(seen)
        found.append(there)

    def embed(recogniser: InsightFaceEncoder | FaceRecogniser) -> list[Tensor]:
        embedded = []
        for seen, there in zip(crops, found, strict=True):
            rows = torch.zeros(len(there), recogniser.dimension)
            made = recogniser.embed(seen) if isinstance(recogniser, FaceRecogniser) else recogniser.embed_crops(seen)
            rows[there] = torch.from_numpy(made)
            embedded.append(rows)
        return embedded

    return [("independent recogniser", True, embed(judge)), ("the pack's recogniser", False, embed(pack))]
