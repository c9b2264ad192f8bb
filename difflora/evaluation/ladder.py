"""The ladder: from the base model to the real person, every rung on the same people, prompts and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.errors import DiffLoRAError
from difflora.evaluation.agreement import PromptAgreement
from difflora.evaluation.gallery import reduced
from difflora.evaluation.likeness import Likeness
from difflora.evaluation.measure import Measured, Scorer
from difflora.evaluation.metrics import PictureMetrics
from difflora.evaluation.picture_methods import picture_methods
from difflora.evaluation.rivals import Rivals
from difflora.evaluation.rows import rows_of, strengthened
from difflora.evaluation.settings import EvaluateSettings
from difflora.evaluation.strength import choose_strengths
from difflora.evaluation.subjects import Subject, load_subjects
from difflora.inference.painter import Painter
from difflora.models import DiffLoRAPipeline, LoraAutoencoder


@dataclass(frozen=True)
class Ladder:
    """All that was measured.

    Attributes:
        subjects: P people.
        native: method -> its figures at strength 1, without pictures where those of ``best`` are others; ``base``,
            ``real`` and methods without a LoRA have no strength.
        best: the same at each method's chosen strength.
        strengths: method -> the chosen one, of methods that give a LoRA.
        tried: what was measured on validation people: method -> strength -> figures.
        seconds: of the hypernetwork's parts, a person.
        facts: what pictures were measured with, for the report.
    """

    subjects: list[Subject]
    native: dict[str, Measured]
    best: dict[str, Measured]
    strengths: dict[str, float]
    tried: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def climb(
    base: FrozenBase,
    people: PeopleFolder,
    corpus: Corpus,
    rivals: Rivals,
    lae: LoraAutoencoder,
    pipeline: DiffLoRAPipeline,
    likeness: Likeness,
    agreement: PromptAgreement | None,
    settings: EvaluateSettings,
    *,
    metrics: PictureMetrics | None = None,
    train_seconds: float | None = None,
    progress: bool = True,
) -> Ladder:
    """Draws and scores every rung, each set of pictures once.

    Where only one strength is to be tried, nobody of the split validation is drawn.

    Args:
        base: the base model that the LoRAs are for.
        people: everyone's pictures.
        corpus: everyone's LoRAs.
        rivals: what retrieval and regression know.
        lae: the autoencoder as it was trained on weights.
        pipeline: the hypernetwork, with encoders.
        likeness: the recognisers.
        agreement: scores pictures by their prompts; None for none.
        settings: how much, on whom.
        metrics: measures the finished pictures, not those that strengths are chosen by; None for none.
        train_seconds: of a teacher's LoRA, as the corpus measured them; None where it did not.
        progress: whether to show a bar with the time left.

    Raises:
        BadParameter: if there are too few held-out people, or the parts do not fit together.
    """
    few = settings.prompts[: settings.validation_prompts]
    images = settings.images_per_prompt
    subjects = load_subjects(people, corpus, "test", settings.people, likeness, settings, settings.prompts, images)
    choosers: list[Subject] = []
    if len(settings.strengths) > 1:
        choosers = load_subjects(people, corpus, "validation", settings.validation_people, likeness, settings, few)
    rows, seconds = rows_of(subjects, corpus, rivals, lae, pipeline, settings, train_seconds)
    other_rows = rows_of(choosers, corpus, rivals, lae, pipeline, settings)[0] if choosers else {}
    with (
        Painter(base, corpus.layout, settings.pictures) as painter,
        tqdm(
            total=settings.pictures_drawn, desc="evaluate", unit="picture", disable=not progress, mininterval=2
        ) as bar,
    ):
        factor = float(lae.config.alpha) / corpus.layout.rank
        scorer = Scorer(painter, likeness, agreement, factor, bar.update)
        strengths: dict[str, float] = dict.fromkeys(rows, 1.0)
        tried: dict[str, dict[str, dict[str, float]]] = {}
        if choosers:
            bottom = scorer.measure(choosers, None) if agreement is not None else None
            strengths, tried = choose_strengths(
                scorer, choosers, other_rows, rivals.mean, bottom, settings.strengths, settings.agreement_margin
            )
            left_out = len(rows) * len(settings.strengths) - sum(map(len, tried.values()))
            bar.total -= left_out * len(choosers) * len(choosers[0].prompts)

        def finished(measured: Measured, *, prompted: bool = True) -> Measured:
            whole = measured if metrics is None else metrics.add(subjects, measured, prompted=prompted)
            return replace(whole, pictures=reduced(whole.pictures, subjects[0].prompts, settings.store_pictures))

        real = scorer.real(subjects, _real(people, subjects, len(subjects[0].prompts)))
        ends = {"base": finished(scorer.measure(subjects, None)), "real": finished(real, prompted=False)}
        native, best = {"base": ends["base"]}, {"base": ends["base"]}
        merge = painter.merge_seconds(next(iter(rows.values()))[0], factor)
        drawing = picture_methods(base, people, settings)
        for name in settings.methods:
            if name in drawing:
                native[name] = best[name] = finished(drawing[name].measure(subjects, scorer))
                continue
            flat = rows[name]
            native[name] = _with_parts(finished(scorer.measure(subjects, flat)), seconds.get(name, {}), merge)
            _changed(name, native[name], ends["base"])
            if strengths[name] == 1.0:  # the same pictures
                best[name] = native[name]
                bar.total -= len(subjects) * len(subjects[0].prompts) * bool(choosers)
            else:
                stronger = finished(scorer.measure(subjects, strengthened(flat, rivals.mean, strengths[name])))
                best[name] = _with_parts(stronger, seconds.get(name, {}), merge)
                native[name] = replace(native[name], pictures=native[name].pictures[:, :0].clone())
    return Ladder(
        subjects,
        native | {"real": ends["real"]},
        best | {"real": ends["real"]},
        strengths,
        tried,
        seconds.get("generated", {}),
        metrics.facts() if metrics is not None else {},
    )


def _with_parts(measured: Measured, parts: dict[str, float], merge: float) -> Measured:
    """A LoRA method's figures, its seconds in the order in which they pass."""
    return replace(measured, seconds={**parts, "merge": merge, **measured.seconds})


def _real(people: PeopleFolder, subjects: Sequence[Subject], count: int) -> list[Tensor]:
    """Pictures of each person that are neither the reference nor those to compare with."""
    return [people.person(subject.identity).images[:count] for subject in subjects]


def _changed(name: str, measured: Measured, base: Measured) -> None:
    """A LoRA that changes no pixel is on dead layers, and every method would score the base's value."""
    if torch.equal(measured.pictures, base.pictures):
        raise DiffLoRAError(f"evaluate: the LoRAs of {name} change no pixel; are they for this base model?")
