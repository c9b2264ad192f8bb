"""Methods that give pictures and no LoRA: the same people, prompts and noise, and no strength."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.evaluation.measure import Measured, Scorer
from difflora.evaluation.settings import EvaluateSettings
from difflora.evaluation.subjects import Subject
from difflora.evaluation.textual_inversion import TextualInversion
from difflora.prompts import PERSON, for_person

NOT_YET = ("instantid", "photomaker")
"""Rows of the paper's Table 1 that nobody draws yet; a ``PictureMethod`` each is all that they lack."""


class PictureMethod(Protocol):
    """A row of the comparison that draws by itself."""

    def measure(self, subjects: Sequence[Subject], scorer: Scorer) -> Measured:
        """Draws every subject's prompts, each picture from its own seed, and has them scored.

        Args:
            subjects: P people; all that a method sees of them are ``references``, unless the report says otherwise.
            scorer: draws with the base model, and scores pictures however they were drawn.

        Returns:
            The figures, with the seconds of each part: of one person, ``images`` of one picture.
        """


class LearntWords:
    """The row of Textual Inversion: the base model, with words learnt from the pictures that the teacher learnt from.

    Args:
        base: the frozen base model.
        people: everyone's pictures.
        settings: of the evaluation.
        progress: whether the training shows a bar.
    """

    def __init__(
        self, base: FrozenBase, people: PeopleFolder, settings: EvaluateSettings, *, progress: bool = False
    ) -> None:
        self._base, self._people, self._settings = base, people, settings.textual_inversion
        self._progress = progress

    def measure(self, subjects: Sequence[Subject], scorer: Scorer) -> Measured:
        """See ``PictureMethod``; ``train`` is a person's share of the seconds of those who are trained together."""
        learners = [self._people.person(subject.identity) for subject in subjects]
        with TextualInversion(self._base, learners, self._settings) as words:
            started = time.perf_counter()
            words.train(progress=self._progress)
            train = (time.perf_counter() - started) / len(subjects)
            prompts = [
                [words.prompt(place, prompt, for_person(PERSON, subject.class_word)) for prompt in subject.prompts]
                for place, subject in enumerate(subjects)
            ]
            measured = scorer.measure(subjects, None, prompts)
        return replace(measured, seconds={"train": train, **measured.seconds})


def picture_methods(
    base: FrozenBase, people: PeopleFolder, settings: EvaluateSettings, *, progress: bool = False
) -> dict[str, PictureMethod]:
    """Those that the settings name: method -> what draws it."""
    known: dict[str, PictureMethod] = {
        "textual_inversion": LearntWords(base, people, settings, progress=progress),
    }
    return {name: method for name, method in known.items() if name in settings.methods}
