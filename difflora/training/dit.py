"""Training of the diffusion transformer on teachers' latents, through the base model, and on moved latents."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.corpus.settings import DreamBoothSettings
from difflora.encoders.face_gradient import FaceGradient
from difflora.errors import BadParameter
from difflora.models import LoraAutoencoder, LoraTransformer, make_scheduler, sample_latents
from difflora.processes import make_accelerator
from difflora.training.captions import EncodedCaptions
from difflora.training.dit_settings import DitSettings
from difflora.training.effect import train_effect
from difflora.training.explained import decoded, explained_variance
from difflora.training.features import ConditionFeatures
from difflora.training.likeness import LikenessLoss
from difflora.training.loop import OnLog, TrainReport, train
from difflora.training.on_latents import DitTask, begin_transformer, moved_transformer
from difflora.training.pictures import EncodedPeople
from difflora.training.refine import refine_latents
from difflora.training.reproducible import weights_digest
from difflora.training.rows import LoraRows
from difflora.training.through import check_base

_STEPS_TO_MEASURE = 20


@dataclass(frozen=True)
class TrainedDit:
    """A trained transformer.

    Attributes:
        transformer: with averaged weights, in eval mode.
        lae: the autoencoder to decode with: a copy with a trained decoder after ``effect``, else the one that was
            given.
        report: of the training on latents.
        effect_report: of the training through the base; None where there was none.
        refined: what moving latents did, round after round: see ``Refined.history``.
        metrics: ``parameters``, ``explained_train`` and, where there are such people, ``explained_validation``:
            variance of weights that generated LoRAs explain.
    """

    transformer: LoraTransformer
    lae: LoraAutoencoder
    report: TrainReport
    effect_report: TrainReport | None
    refined: list[dict[str, float]]
    metrics: dict[str, float]


def train_dit(
    corpus: Corpus,
    lae: LoraAutoencoder,
    features: ConditionFeatures,
    settings: DitSettings,
    *,
    checkpoint: str | Path,
    canonical_form: bool = False,
    base: FrozenBase | None = None,
    people: PeopleFolder | None = None,
    faces: FaceGradient | None = None,
    start: LoraTransformer | None = None,
    accelerator: Accelerator | None = None,
    on_log: OnLog | None = None,
    on_effect_log: OnLog | None = None,
    on_refine_log: OnLog | None = None,
    progress: bool = True,
) -> TrainedDit:
    """Trains a transformer on the training people's latents and then, with ``effect`` or ``refine``, through the base.

    Args:
        corpus: LoRAs, split by identity.
        lae: the trained autoencoder; it goes to the device and is not changed otherwise.
        features: of everyone in the corpus's splits train and validation; ``effect`` and ``refine`` also learn from
            training people who have features and pictures, but no LoRA.
        settings: how.
        checkpoint: folder of the checkpoints.
        canonical_form: as in the autoencoder's training.
        base: the base model that the LoRAs are for; ``effect`` and ``refine`` need it.
        people: their pictures; ``effect`` and ``refine`` need them.
        faces: the recogniser that made the features; ``effect.likeness`` and ``refine`` need it.
        start: a trained transformer to go on from; it is not changed.
        accelerator: see ``train``.
        on_log: see ``train``; of the training on teachers' latents.
        on_effect_log: the same for ``effect``.
        on_refine_log: the same for ``refine``, round after round.
        progress: whether to show bars.

    Raises:
        BadParameter: if there are too few people, the parts do not fit together, or base, pictures or recogniser are
            lacking.
        BadFile: if corpus or checkpoint are damaged.
        DiffLoRAError: if the training goes wrong.
    """
    if settings.through_base and (base is None or people is None):
        raise BadParameter("dit.effect or dit.refine is on: give the base model and the people's pictures")
    if settings.needs_faces and faces is None:
        raise BadParameter("dit.effect.likeness or dit.refine is on: give the face pack, or switch it off")
    if lae.layout != corpus.layout:
        raise BadParameter(f"lae: LoRA layout {lae.layout.digest} where {corpus.layout.digest} is needed")
    accelerator = accelerator or make_accelerator()
    device = accelerator.device
    rows = LoraRows(corpus, "train", canonical_form=canonical_form)
    lae = lae.to(device).train(False)
    with torch.no_grad():
        latents = torch.cat([lae.encode(batch.to(device)) for batch in rows])  # (N, Z)
    seen = features.of(rows.names).to(device)
    transformer = begin_transformer(lae, latents, seen, settings, start).to(device)
    course = _Course(settings, Path(checkpoint), accelerator, progress)
    facts = {
        "dit": settings.model_dump(mode="json", exclude={"loop", "effect", "refine"}),
        "rows": rows.digest,
        "lae": weights_digest(lae),
        "start": None if start is None else weights_digest(start),
        "features": seen.digest,
    }
    report = course.learn("latents", transformer, latents, seen, facts, on_log)
    effect_report: TrainReport | None = None
    refined: list[dict[str, float]] = []
    if settings.through_base and base is not None and people is not None:
        check_base(base, lae, device)
        faces = None if faces is None else faces.to(base.device)
        shown = features.of(_pictured(rows.names, corpus, features, people)).to(device)
        seen_by = (base, people, shown.names, settings.most_pictures, _framing(corpus))
        facts |= {"loop": settings.loop.model_dump(mode="json"), "base": base.weights, "shown": shown.digest}
        if settings.effect.enabled:
            lae, likeness = copy.deepcopy(lae), None
            if faces is not None and settings.effect.likeness.weight:
                likeness = LikenessLoss(base, faces, shown, settings.effect.likeness)
            effect_report = train_effect(
                transformer,
                lae,
                latents,
                shown,
                base,
                EncodedPeople(*seen_by),
                settings,
                checkpoint=course.folder / "effect",
                fingerprint=facts,
                accelerator=accelerator,
                likeness=likeness,
                on_log=on_effect_log,
                progress=progress,
            )
        if faces is not None and settings.refine.rounds:
            captions = EncodedCaptions(*seen_by, prompts=settings.refine.prompts)
            transformer, refined = course.refine(
                transformer, lae, shown, base, faces, captions, facts, on_log=on_refine_log
            )
    metrics = _measure(transformer, lae, corpus, rows, features, settings, canonical_form)
    return TrainedDit(transformer, lae, report, effect_report, refined, metrics)


@dataclass(frozen=True)
class _Course:
    """What the trainings of one transformer have in common."""

    settings: DitSettings
    folder: Path
    accelerator: Accelerator
    progress: bool

    def learn(
        self,
        name: str,
        transformer: LoraTransformer,
        latents: Tensor,
        features: ConditionFeatures,
        fingerprint: Mapping[str, Any],
        on_log: OnLog | None = None,
    ) -> TrainReport:
        """Trains a transformer, in place, on the latents (N, Z) of the people who have the features."""
        return train(
            "dit",
            DitTask(transformer, latents, features, self.settings),
            features.names,
            self.settings.loop,
            checkpoint=self.folder / name,
            fingerprint=fingerprint,
            accelerator=self.accelerator,
            on_log=on_log,
            progress=self.progress,
        )

    def refine(
        self,
        transformer: LoraTransformer,
        lae: LoraAutoencoder,
        features: ConditionFeatures,
        base: FrozenBase,
        faces: FaceGradient,
        captions: EncodedCaptions,
        fingerprint: Mapping[str, Any],
        on_log: OnLog | None = None,
    ) -> tuple[LoraTransformer, list[dict[str, float]]]:
        """Rounds of moving what the transformer makes and of a copy that learns it; the last, and what moving did.

        Args:
            transformer: trained; it is not changed.
            lae: decodes latents.
            features: of N people.
            base: the base model that the LoRAs are for.
            faces: the recogniser that made the features.
            captions: of the same people.
            fingerprint: what decided the transformer.
            on_log: is told of each round's moves when it is done.
        """
        chosen, decided = self.settings.refine, {**fingerprint, "decoder": weights_digest(lae)}
        done: list[dict[str, float]] = []
        for place in range(chosen.rounds):
            facts = {**decided, "start": weights_digest(transformer)}
            made = sample_people(transformer, features, self.settings)
            moved = refine_latents(
                made,
                lae,
                features,
                base,
                faces,
                captions,
                chosen,
                place=place,
                checkpoint=self.folder / f"refine-{place}",
                fingerprint=facts,
                accelerator=self.accelerator,
                progress=self.progress,
            )
            transformer = moved_transformer(transformer, moved.latents - made, features, chosen.ridge)
            facts["refine"] = chosen.model_dump(mode="json")
            self.learn(f"refined-{place}", transformer, moved.latents, features, facts)
            history = [{**move, "step": len(done) + move["step"]} for move in moved.history]
            if on_log is not None and self.accelerator.is_main_process:
                for move in history:
                    on_log(int(move["step"]), {key: value for key, value in move.items() if key != "step"})
            done += history
        return transformer, done


def _framing(corpus: Corpus) -> DreamBoothSettings:
    """How the corpus's LoRAs saw their pictures."""
    known = corpus.settings.get("dreambooth", {})
    return DreamBoothSettings(**{key: known[key] for key in ("resolution", "crop", "seed") if key in known})


def _pictured(trained: Sequence[str], corpus: Corpus, features: ConditionFeatures, people: PeopleFolder) -> list[str]:
    """Those with a LoRA first, then the other training people who have features alone."""
    others = [name for name in features.names if name not in corpus.places and people.line(name)["split"] == "train"]
    return [*trained, *others]


def _measure(
    transformer: LoraTransformer,
    lae: LoraAutoencoder,
    corpus: Corpus,
    rows: LoraRows,
    features: ConditionFeatures,
    settings: DitSettings,
    canonical_form: bool,
) -> dict[str, float]:
    """What one sample of each person, from the first of the person's pictures, explains."""
    metrics = {"parameters": float(sum(parameter.numel() for parameter in transformer.parameters()))}
    there = {"train": rows}
    if corpus.indices("validation"):
        there["validation"] = LoraRows(corpus, "validation", canonical_form=canonical_form)
    for split, part in there.items():
        seen = features.of(part.names)
        latents = sample_few_steps(transformer, seen.face[seen.starts], seen.image[seen.starts], settings)
        metrics[f"explained_{split}"] = explained_variance(lae, decoded(lae, part, latents)).total
    return metrics


def sample_few_steps(transformer: LoraTransformer, face: Tensor, image: Tensor, settings: DitSettings) -> Tensor:
    """Latents (M, Z) for features (M, Df) and (M, Di), in the few steps that measuring and moving need."""
    noise, device = settings.noise, transformer.face_mean.device
    return sample_latents(
        transformer,
        make_scheduler(noise, settings.model.prediction_type),
        face.to(device),
        image.to(device),
        num_inference_steps=min(_STEPS_TO_MEASURE, noise.num_train_timesteps),
        generator=torch.Generator().manual_seed(settings.loop.seed),
    )


def sample_people(transformer: LoraTransformer, features: ConditionFeatures, settings: DitSettings) -> Tensor:
    """Latents (N, Z) of people, from the means of their pictures' features.

    Plain means, not their directions: those lie farther out than any picture's features, and a skip that is fitted to
    pictures would grow round after round.
    """
    means = features.means(features.face), features.means(features.image)
    return sample_few_steps(transformer, *means, settings)
