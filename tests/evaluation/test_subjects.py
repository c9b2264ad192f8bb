from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.errors import BadParameter
from difflora.evaluation.likeness import Faces
from difflora.evaluation.settings import EvaluateSettings
from difflora.evaluation.subjects import Subject, load_subjects, one_a_prompt

PROMPTS = ("a photo of {person}", "{person} at sea")


class _Likeness:
    def look(self, images: Tensor) -> Faces:
        return Faces({}, torch.ones(len(images), dtype=torch.bool))


def _load(images: int, count: int = 2) -> list[Subject]:
    pictures = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    person = SimpleNamespace(references=pictures, class_word="man")
    people: Any = SimpleNamespace(
        split=lambda split: ["a", "b"], line=lambda identity: {"references": 3}, person=lambda identity: person
    )
    corpus: Any = SimpleNamespace(places={"a": 0, "b": 1})
    likeness: Any = _Likeness()
    settings = EvaluateSettings(prompts=PROMPTS)
    return load_subjects(people, corpus, "test", count, likeness, settings, PROMPTS, images)


def test_each_picture_of_a_prompt_has_noise_of_its_own() -> None:
    several = _load(3)
    assert several[0].prompts == 3 * ["a photo of a man"] + 3 * ["a man at sea"]
    assert len({seed for subject in several for seed in subject.seeds}) == 2 * 2 * 3
    once = _load(1)
    for subject, alone in zip(several, once, strict=True):
        assert subject.seeds[::3] == alone.seeds, "the first is what it was alone"
    assert one_a_prompt(several[0].prompts) == [0, 3]
    assert one_a_prompt(once[0].prompts) == [0, 1]


def test_too_few_people_are_said() -> None:
    with pytest.raises(BadParameter, match="2 people of the split test have a LoRA and 2 references or more, 3"):
        _load(1, 3)
