"""One method's pictures of the same people, scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difflora.evaluation.agreement import PromptAgreement
from difflora.evaluation.likeness import Likeness, similarity
from difflora.evaluation.set_distances import SetFigure
from difflora.evaluation.subjects import Subject
from difflora.inference.painter import Painter

Array = np.ndarray[Any, np.dtype[np.float64]]
_PEOPLE = 8
"""People between two looks at the clock, at least; more where a batch holds more."""


@dataclass(frozen=True)
class Measured:
    """A method's figures, one a person, each the mean over the person's prompts.

    Attributes:
        scores: ``face_sim``, ``face_sim_independent``, ``agreement``, ``faces_found`` and those of
            ``PictureMetrics``, as far as they are measured -> (P,) float64.
        pictures: (P, K, 3, H, W) uint8; once they are measured, none or the first ones, which are kept for show.
        sets: ``fid`` and ``kid``, of all pictures together.
        seconds: of each part, of one person and one picture: ``encode``, ``sample``, ``decode``, ``merge``, ``images``.
    """

    scores: dict[str, Array]
    pictures: Tensor
    sets: dict[str, SetFigure] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Scorer:
    """Draws and scores the same prompts from the same noise under any LoRAs.

    Args:
        painter: the base model.
        likeness: the recognisers.
        agreement: scores pictures by their prompts; None for none.
        factor: alpha / rank of flat rows.
        on_picture: told how many pictures were drawn.
    """

    def __init__(
        self,
        painter: Painter,
        likeness: Likeness,
        agreement: PromptAgreement | None,
        factor: float,
        on_picture: Callable[[int], object] | None = None,
    ) -> None:
        self._painter, self._likeness, self._agreement = painter, likeness, agreement
        self._factor, self._on_picture = factor, on_picture

    def measure(
        self, subjects: Sequence[Subject], rows: Tensor | None, prompts: Sequence[Sequence[str]] | None = None
    ) -> Measured:
        """Draws every subject's prompts under the subject's LoRA.

        Args:
            subjects: P people.
            rows: (P, D) flat LoRAs; None for the base model alone.
            prompts: K of each person, what is drawn in the place of the subject's own; scores read the subject's own.
        """
        prompts = [one.prompts for one in subjects] if prompts is None else prompts
        seeds, each = [one.seeds for one in subjects], len(prompts[0])
        at_once = self._painter.people_at_once(each, _PEOPLE)
        made: Tensor | None = None  # filled in place: one method's pictures may be many gigabytes
        scores, spent = [], 0.0
        for start in range(0, len(subjects), at_once):
            here = slice(start, start + at_once)
            started = time.perf_counter()
            if rows is None:
                flat = self._painter.paint(
                    [word for person in prompts[here] for word in person], [seed for own in seeds[here] for seed in own]
                )
                pictures = flat.unflatten(0, (-1, each))  # (P', K, 3, H, W)
            else:
                pictures = self._painter.paint_people(prompts[here], seeds[here], rows[here], self._factor)
            spent += time.perf_counter() - started
            scores += [self._score(one, shown) for one, shown in zip(subjects[here], pictures, strict=True)]
            if made is None:
                made = torch.empty(len(subjects), *pictures.shape[1:], dtype=torch.uint8)
            made[here] = _bytes(pictures)
            if self._on_picture is not None:
                self._on_picture(pictures.shape[0] * pictures.shape[1])
        assert made is not None
        return Measured(_columns(scores), made, seconds={"images": spent / (len(subjects) * each)})

    def score(self, subjects: Sequence[Subject], pictures: Tensor, seconds: Mapping[str, float]) -> Measured:
        """Scores pictures that a method drew of the subjects' prompts by itself.

        Args:
            subjects: P people.
            pictures: (P, K, 3, H, W) float32 in [0, 1].
            seconds: of each part, of one person, ``images`` of one picture.
        """
        scores = [self._score(one, shown) for one, shown in zip(subjects, pictures, strict=True)]
        return Measured(_columns(scores), _bytes(pictures), seconds=dict(seconds))

    def real(self, subjects: Sequence[Subject], pictures: Sequence[Tensor]) -> Measured:
        """Scores pictures that show the person for certain, (K, 3, H, W) uint8 each: the ceiling."""
        scores = []
        for subject, shown in zip(subjects, pictures, strict=True):
            faces = self._likeness.look(shown)
            found = {name: float(value.mean()) for name, value in similarity(faces, subject.others).items()}
            scores.append(found | {"faces_found": float(faces.found.float().mean())})
        return Measured(_columns(scores), torch.stack(list(pictures)))

    def _score(self, subject: Subject, pictures: Tensor) -> dict[str, float]:
        faces = self._likeness.look(pictures)
        found = {name: float(value.mean()) for name, value in similarity(faces, subject.others).items()}
        found["faces_found"] = float(faces.found.float().mean())
        if self._agreement is not None:
            found["agreement"] = float(self._agreement.score(pictures, subject.prompts).mean())
        return found


def _bytes(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as uint8: all pictures of a method are held at once."""
    return pictures.clamp(0, 1).mul(255).round().byte()


def _columns(scores: Sequence[Mapping[str, float]]) -> dict[str, Array]:
    return {key: np.array([one[key] for one in scores]) for key in scores[0]}
