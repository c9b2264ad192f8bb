from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import Person
from difflora.evaluation.likeness import Faces
from difflora.evaluation.measure import Scorer
from difflora.evaluation.picture_methods import NOT_YET, LearntWords, picture_methods
from difflora.evaluation.settings import LORA_METHODS, PICTURE_METHODS, EvaluateSettings
from difflora.evaluation.subjects import Subject
from difflora.inference.painter import Painter, PictureSettings
from tests.tiny import sdxl

SETTINGS = EvaluateSettings(
    methods=("textual_inversion", "generated"),
    prompts=("a photo of {person}",),
    textual_inversion={"steps": 3, "batch_size": 1, "lr": 0.1, "words": 2},  # type: ignore[arg-type]
)


@pytest.fixture(scope="module")
def base() -> FrozenBase:
    return FrozenBase.of(sdxl(), "tiny", "tiny weights")


class _People:
    """Everyone's pictures, each person of one colour."""

    def person(self, identity: str) -> Person:
        images = torch.full((3, 3, 64, 64), 40 * (1 + int(identity[1:]))).byte()
        return Person(identity, "man", images, ["a photo of a man"] * 3, images[:0], [], torch.zeros(3, 4))


class _Faces:
    """Finds a face everywhere."""

    recognisers = ("face_sim",)

    def look(self, images: Tensor) -> Faces:
        return Faces({"face_sim": torch.ones(len(images), 1)}, torch.ones(len(images), dtype=torch.bool))


class _Agreement:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def score(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        self.prompts += prompts
        return torch.ones(len(pictures))


def test_learnt_words_draw_other_pictures_that_are_scored_by_the_plain_prompts(
    base: FrozenBase, make_subject: Callable[..., Subject]
) -> None:
    subjects = [make_subject(name, torch.ones(1)) for name in ("p0", "p1")]
    for subject in subjects:
        subject.prompts[:] = ["a photo of a man, smiling", "a man on a beach"]
    people: Any = _People()
    likeness: Any = _Faces()
    agreement = _Agreement()
    drawn: list[int] = []
    with Painter(base, None, PictureSettings(steps=1, guidance_scale=1.0, batch_size=4)) as painter:
        scorer = Scorer(painter, likeness, agreement, 1.0, drawn.append)
        plain = scorer.measure(subjects, None)
        made = LearntWords(base, people, SETTINGS).measure(subjects, scorer)
        again = scorer.measure(subjects, None)
    assert made.pictures.shape == plain.pictures.shape == (2, 2, 3, 64, 64)
    assert made.pictures.dtype == torch.uint8
    assert not torch.equal(made.pictures, plain.pictures)
    assert torch.equal(again.pictures, plain.pictures), "the base model is as it was"
    assert list(made.seconds) == ["train", "images"]
    assert min(made.seconds.values()) > 0
    assert agreement.prompts == 3 * [*subjects[0].prompts, *subjects[1].prompts], "never the new words"
    assert sum(drawn) == 3 * 4


def test_pictures_drawn_elsewhere_are_scored_as_the_base_models_are(
    base: FrozenBase, make_subject: Callable[..., Subject]
) -> None:
    subjects = [make_subject(name, torch.ones(1)) for name in ("p0", "p1")]
    for subject in subjects:
        subject.prompts[:] = ["a photo of a man, smiling", "a man on a beach"]
    likeness: Any = _Faces()
    agreement = _Agreement()
    with Painter(base, None, PictureSettings(steps=1, guidance_scale=1.0, batch_size=4)) as painter:
        scorer = Scorer(painter, likeness, agreement, 1.0)
        drawn = scorer.measure(subjects, None)
        scored = scorer.score(subjects, drawn.pictures.float() / 255, {"images": 2.0})
    assert torch.equal(scored.pictures, drawn.pictures)
    assert {key: value.tolist() for key, value in scored.scores.items()} == {
        key: value.tolist() for key, value in drawn.scores.items()
    }
    assert scored.seconds == {"images": 2.0}
    assert agreement.prompts == 2 * [*subjects[0].prompts, *subjects[1].prompts]


def test_only_rows_that_are_asked_for_are_there() -> None:
    nothing: Any = SimpleNamespace()
    assert set(picture_methods(nothing, nothing, SETTINGS)) == {"textual_inversion"}
    plain = EvaluateSettings(prompts=("{person}",))
    assert plain.methods == LORA_METHODS
    assert picture_methods(nothing, nothing, plain) == {}
    assert not set(NOT_YET) & {*LORA_METHODS, *PICTURE_METHODS}
    assert SETTINGS.lora_methods == ["generated"]


def test_the_pictures_of_all_rows_are_counted() -> None:
    few = {"prompts": ("{person}", "{person} at sea"), "people": 5, "validation_people": 3, "validation_prompts": 1}
    one = EvaluateSettings(**few, methods=("other", "textual_inversion"), strengths=(1.0,))  # type: ignore[arg-type]
    assert one.pictures_drawn == 5 * 2 * 3, "base and two rows, and nothing to choose"
    two = EvaluateSettings(**few, methods=("other", "textual_inversion"), strengths=(1.0, 2.0))  # type: ignore[arg-type]
    assert two.pictures_drawn == 5 * 2 * 4 + 3 * 2
    asked = two.model_copy(update={"agreement": "module:Class"})
    assert asked.pictures_drawn == two.pictures_drawn + 3
