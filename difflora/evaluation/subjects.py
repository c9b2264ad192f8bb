"""Held-out people as the evaluation meets them: one reference as a file, other pictures to compare with, prompts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.corpus.splits import Split
from difflora.errors import BadParameter
from difflora.evaluation.likeness import Faces, Likeness
from difflora.evaluation.settings import EvaluateSettings
from difflora.inference.painter import noise_seed
from difflora.inference.prompts import for_person


@dataclass(frozen=True)
class Subject:
    """A person who is shown to every method.

    Attributes:
        identity: the person's id.
        class_word: man, woman.
        reference: the bytes of one JPEG, all that a method learns of the person.
        pictures: (M, 3, H, W) uint8, the person's pictures that the reference is not among.
        others: their faces: what pictures are scored against.
        prompts: what is drawn.
        seeds: of each picture's noise, the same for every method.
    """

    identity: str
    class_word: str
    reference: bytes
    pictures: Tensor
    others: Faces
    prompts: list[str]
    seeds: list[int]


def load_subjects(
    people: PeopleFolder,
    corpus: Corpus,
    split: Split,
    count: int,
    likeness: Likeness,
    settings: EvaluateSettings,
    prompts: Sequence[str],
) -> list[Subject]:
    """The first people of a split who have a teacher's LoRA and at least two references.

    The first reference is shown to the methods; pictures are scored against the others, which no LoRA learnt from.

    Args:
        people: everyone's pictures.
        corpus: everyone's LoRAs.
        split: test or validation.
        count: how many.
        likeness: the recognisers.
        settings: seed of the noise.
        prompts: with ``{person}`` in them.

    Raises:
        BadParameter: if there are fewer such people.
    """
    found: list[Subject] = []
    for identity in people.split(split):
        if len(found) == count:
            break
        if identity not in corpus.places or int(people.line(identity)["references"]) < 2:
            continue
        person = people.person(identity)
        others = likeness.look(person.references[1:])
        if not bool(others.found.any()):
            continue
        found.append(
            Subject(
                identity,
                person.class_word,
                as_jpeg(person.references[0]),
                person.references[1:],
                others,
                [for_person(prompt, person.class_word) for prompt in prompts],
                [noise_seed(settings.seed, identity, prompt) for prompt in prompts],
            )
        )
    if len(found) < count:
        raise BadParameter(
            f"evaluate: {len(found)} people of the split {split} have a LoRA and two references or more, {count} are "
            "wanted; make more people (identities.count), raise their share (identities.pictures.splits), or ask for "
            "fewer"
        )
    return found


def as_jpeg(image: Tensor) -> bytes:
    """A picture (3, H, W) uint8 as the bytes of a JPEG, of high quality and without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(
        buffer, "JPEG", quality=95, subsampling=0
    )
    return buffer.getvalue()
