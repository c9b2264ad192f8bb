"""Fresh people on whom LoRAs are tried: what a LoRA learns from, other pictures of them, and prompts to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.latents import Encoded, encode_person
from difflora.corpus.many import ManyLoras
from difflora.encoders.faces import InsightFaceEncoder
from difflora.identities.filter import look
from difflora.lora import LoraLayout
from difflora.world import GUIDANCE, STEPS
from difflora.world.generate import generate
from difflora.world.identities import RenderedPeople

_REFERENCES = 4


@dataclass(frozen=True)
class Subject:
    """A person: what a LoRA learns from, what its pictures are compared with, and what they are asked to show."""

    encoded: Encoded
    references: Tensor
    prompts: list[str]


def encode_rendered(
    base: FrozenBase, encoder: InsightFaceEncoder, source: RenderedPeople, identity: str, images: int
) -> Encoded:
    """What a LoRA learns of a rendered person from ``images`` renders, with the faces' boxes as the pack finds them."""
    learn = source.candidates(identity, images, 0)
    seen = look(encoder, learn.images)
    return encode_person(base, identity, learn.images, learn.captions, seen.boxes, landmarks=seen.landmarks)


def make_subjects(
    base: FrozenBase, encoder: InsightFaceEncoder, count: int, images: int, prompts: int, seed: int
) -> list[Subject]:
    """Fresh people with ``images`` renders to learn from, four references and ``prompts`` prompts of other scenes."""
    source = RenderedPeople(seed=seed)
    subjects = []
    for identity in source.ids(count):
        other = source.candidates(identity, _REFERENCES + prompts, 1)
        encoded = encode_rendered(base, encoder, source, identity, images)
        subjects.append(Subject(encoded, other.images[:_REFERENCES], other.captions[_REFERENCES:]))
    return subjects


def likeness(
    pipeline: Any,
    layout: LoraLayout,
    scale: float,
    flat: Tensor | None,
    subjects: Sequence[Subject],
    encoder: InsightFaceEncoder,
    seed: int,
    *,
    steps: int = STEPS,
    guidance_scale: float = GUIDANCE,
) -> list[float]:
    """Each person's mean cosine between drawn pictures and references; a picture without a face counts 0.

    Args:
        pipeline: draws, in float32.
        layout: of the LoRAs.
        scale: alpha / rank.
        flat: (P, D); None for the base alone.
        subjects: P people.
        encoder: the face pack.
        seed: of the noise.
        steps: of a picture.
        guidance_scale: of a picture.
    """
    figures = []
    for place, subject in enumerate(subjects):
        wanted = look(encoder, subject.references)
        if flat is None:
            drawn = generate(pipeline, subject.prompts, seed, steps=steps, guidance_scale=guidance_scale)
        else:
            with ManyLoras(pipeline.unet, layout, scale) as loras:
                loras.set(flat[place : place + 1])
                drawn = generate(pipeline, subject.prompts, seed, steps=steps, guidance_scale=guidance_scale)
        seen = look(encoder, drawn.mul(255).round().byte())
        figures.append(float((seen.embeddings @ wanted.embeddings[wanted.found].T).mean()))
    return figures
