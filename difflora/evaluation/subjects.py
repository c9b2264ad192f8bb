"""Held-out people as the evaluation meets them: one reference as a file, other pictures to compare with, prompts."""

from __future__ import annotations

import io
import logging
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
from difflora.prompts import for_person
from difflora.seeds import noise_seed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A person who is shown to every method.

    Attributes:
        identity: the person's id.
        class_word: man, woman.
        references: the bytes of JPEGs, mostly one: all that a method learns of the person.
        pictures: (M, 3, H, W) uint8, pictures of the person that the references are not among.
        others: their faces: what pictures are scored against.
        prompts: what is drawn, one a picture; where there are several pictures of a prompt, they follow each other.
        seeds: of each picture's noise, the same for every method.
    """

    identity: str
    class_word: str
    references: list[bytes]
    pictures: Tensor
    others: Faces
    prompts: list[str]
    seeds: list[int]

    @property
    def reference(self) -> bytes:
        """The first of them, which stands for the person in grids."""
        return self.references[0]


def load_subjects(
    people: PeopleFolder,
    corpus: Corpus,
    split: Split,
    count: int,
    likeness: Likeness,
    settings: EvaluateSettings,
    prompts: Sequence[str],
    images: int = 1,
) -> list[Subject]:
    """The first people of a split who have a teacher's LoRA and enough references.

    The first references are shown to the methods; pictures are scored against others, which no LoRA learnt from.
    Whoever shows no face in those is passed over, and the log says who.

    Args:
        people: everyone's pictures.
        corpus: everyone's LoRAs.
        split: test or validation.
        count: how many.
        likeness: the recognisers.
        settings: how many are shown and compared with, and the seed of the noise.
        prompts: with ``{person}`` in them.
        images: pictures of each prompt.

    Raises:
        BadParameter: if there are fewer such people.
    """
    shown, compared = settings.references, settings.compared
    least = shown + (compared or 1)
    found: list[Subject] = []
    for identity in people.split(split):
        if len(found) == count:
            break
        if identity not in corpus.places or int(people.line(identity)["references"]) < least:
            continue
        person = people.person(identity)
        rest = person.references[shown:] if compared is None else person.references[-compared:]  # (M, 3, H, W)
        others = likeness.look(rest)
        if not bool(others.found.any()):
            logger.warning("%s is passed over: no face is found in the pictures to compare with", identity)
            continue
        found.append(
            Subject(
                identity,
                person.class_word,
                [as_jpeg(one) for one in person.references[:shown]],
                rest,
                others,
                [for_person(prompt, person.class_word) for prompt in prompts for _ in range(images)],
                [_seed(settings.seed, identity, prompt, number) for prompt in prompts for number in range(images)],
            )
        )
    if len(found) < count:
        raise BadParameter(
            f"evaluate: {len(found)} people of the split {split} have a LoRA and {least} references or more, {count} "
            "are wanted; make more people (identities.count), raise their share (identities.pictures.splits), or ask "
            "for fewer"
        )
    return found


def one_a_prompt(prompts: Sequence[str]) -> list[int]:
    """Places of the first picture of each different prompt."""
    return [prompts.index(prompt) for prompt in dict.fromkeys(prompts)]


def _seed(seed: int, identity: str, prompt: str, number: int) -> int:
    """Of a picture's noise; the first picture of a prompt has the same one however many follow."""
    return noise_seed(seed, identity, prompt, *([str(number)] if number else []))


def as_jpeg(image: Tensor) -> bytes:
    """A picture (3, H, W) uint8 as the bytes of a JPEG, of high quality and without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(
        buffer, "JPEG", quality=95, subsampling=0
    )
    return buffer.getvalue()
