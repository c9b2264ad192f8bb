"""The start that LoRAs of the world's people share: A learnt over rendered people (``corpus.start_learning``)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from difflora.corpus.base import FrozenBase
from difflora.corpus.dreambooth import train_people
from difflora.corpus.latents import Encoded
from difflora.corpus.settings import DreamBoothSettings
from difflora.corpus.start_learning import StartSettings, learn_start, save_start
from difflora.lora import LoraLayout
from difflora.world.bars import Bar
from difflora.world.faces.pack import open_encoder
from difflora.world.identities import RenderedPeople
from difflora.world.subjects import encode_rendered, likeness, make_subjects

FILE = "start/start.safetensors"
BASE_NAME = "difflora-embedded"
MARGIN = 0.10
"""How much more likeness LoRAs must gain from it than from a random A."""

_PEOPLE, _PROMPTS, _STEPS = 8, 6, 12


class WorldStartSettings(BaseModel):
    """How the start is learnt; an episode takes some 40 seconds of two cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dreambooth: DreamBoothSettings = DreamBoothSettings(
        targets=("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "feed_forward", "projections"),
        rank=2,
        steps=40,
        batch_size=4,
        lr=0.06,
        eps=1e-3,
        schedule="cosine",
        final_lr=0.1,
        weight_decay=0.0,
        face_weight=12,
        mode_scale=0.8,
        freeze_a=True,
    )
    how: StartSettings = StartSettings()
    images: int = Field(18, ge=1, description="renders of a person")
    seed: int = Field(15, ge=0, description="of the people")


def train_start(settings: WorldStartSettings | None, assets: Path, work: Path) -> dict[str, Any]:
    """Learns the start on rendered people through the base in ``assets``, and writes it as a LoRA file.

    Args:
        settings: None for the defaults.
        assets: the folder of the world's models; base and face pack must be there.
        work: where the checkpoint lies.

    Returns:
        Steps, seconds and settings.

    Raises:
        BadFile: if the base or the face pack is missing.
    """
    settings = settings or WorldStartSettings()
    chosen, at_once = settings.dreambooth, settings.how.people_at_once
    base, encoder = FrozenBase.open(assets / "base", BASE_NAME), open_encoder(assets)
    layout = LoraLayout.from_unet(base.unet, chosen.targets, chosen.rank)
    source = RenderedPeople(seed=settings.seed)
    ids = source.ids(settings.how.episodes * at_once)

    def people(episode: int) -> list[Encoded]:
        chosen_ids = ids[episode * at_once :][:at_once]
        return [encode_rendered(base, encoder, source, identity, settings.images) for identity in chosen_ids]

    learnt = learn_start(base, layout, people, chosen, settings.how, checkpoint=work / "checkpoints" / "start")
    (assets / FILE).parent.mkdir(parents=True, exist_ok=True)
    save_start(assets / FILE, learnt, layout, base.name, chosen.scale)
    steps = chosen.steps * len(learnt.losses)
    return {"steps": steps, "seconds": learnt.seconds, "settings": settings.model_dump(mode="json")}


def verify_start(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """How far LoRAs of fresh people get from the start and from a random A, B alone trained, in the same steps.

    Likeness is the pack's cosine between pictures of new prompts, drawn without guidance, and other renders of the
    person; a picture without a face counts as 0.

    Args:
        assets: folder of the embedded world's assets.
        seed: seed of people, prompts and noise.
        count: people; None for 8.
    """
    settings = WorldStartSettings()
    base, encoder = FrozenBase.open(assets / "base", BASE_NAME), open_encoder(assets)
    chosen = settings.dreambooth
    layout = LoraLayout.from_unet(base.unet, chosen.targets, chosen.rank)
    subjects = make_subjects(base, encoder, count or _PEOPLE, settings.images, _PROMPTS, seed)

    def mean_likeness(recipe: DreamBoothSettings | None) -> float:
        """Of LoRAs trained by a recipe; of the base for none."""
        people = [subject.encoded for subject in subjects]
        flat = None if recipe is None else train_people(base, layout, people, recipe, progress=True).flat
        figures = likeness(
            base.pipeline,
            layout,
            chosen.scale,
            flat,
            subjects,
            encoder,
            seed,
            steps=_STEPS,
            guidance_scale=1.0,
        )
        return sum(figures) / len(figures)

    plain, random = mean_likeness(None), mean_likeness(chosen)
    own = mean_likeness(chosen.model_copy(update={"start": assets / FILE}))
    return [
        Bar(
            f"start: gain in likeness of LoRAs of {chosen.steps} steps; a random A's and {MARGIN:g}",
            random - plain + MARGIN,
            own - plain,
        ),
        Bar("start: the same from a random A", math.nan, random - plain),
        Bar("start: likeness of the base", math.nan, plain),
    ]
