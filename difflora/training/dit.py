"""Training of the diffusion transformer on latents (paper, 3.3), and of both models through the base model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.corpus.settings import DreamBoothSettings
from difflora.encoders.face_gradient import FaceGradient
from difflora.errors import BadParameter
from difflora.models import LoraAutoencoder, LoraTransformer, make_scheduler, sample_latents
from difflora.models.noise import target_of
from difflora.processes import make_accelerator
from difflora.training.batches import Batch
from difflora.training.conditions import show
from difflora.training.dit_settings import DitSettings
from difflora.training.effect import train_effect
from difflora.training.explained import decoded, explained_variance
from difflora.training.features import ConditionFeatures
from difflora.training.loop import OnLog, TrainReport, train
from difflora.training.reproducible import seeded, weights_digest
from difflora.training.ridge import fit_ridge
from difflora.training.rows import LoraRows

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
        metrics: ``parameters``, ``explained_train`` and, where there are such people, ``explained_validation``:
            variance of weights that generated LoRAs explain.
    """

    transformer: LoraTransformer
    lae: LoraAutoencoder
    report: TrainReport
    effect_report: TrainReport | None
    metrics: dict[str, float]


class DitTask(nn.Module):
    """The loss of a batch: mean squared error of what the transformer predicts (equation 3)."""

    def __init__(
        self, transformer: LoraTransformer, latents: Tensor, features: ConditionFeatures, settings: DitSettings
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self._latents, self._features, self._settings = latents, features, settings
        self._scheduler = make_scheduler(settings.noise, settings.model.prediction_type)

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """The scalar ``loss``."""
        shown = show(batch, self._latents, self._features, self.transformer, self._settings)
        noise = batch.randn(shown.latents.shape[1])  # (b, Z)
        timesteps = batch.spread(self._settings.noise.num_train_timesteps)  # (b,)
        noisy = self._scheduler.add_noise(shown.latents, noise, timesteps)  # (b, Z)
        made = self.transformer(noisy, timesteps, shown.face, shown.image, shown.drop)  # (b, Z)
        return {"loss": F.mse_loss(made.float(), target_of(self._scheduler, shown.latents, noise, timesteps))}


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
    progress: bool = True,
) -> TrainedDit:
    """Trains a transformer on the training people's latents and then, where ``effect`` is on, through the base.

    Args:
        corpus: LoRAs, split by identity.
        lae: the trained autoencoder; it goes to the device and is not changed otherwise.
        features: of everyone in the corpus's splits train and validation; ``effect`` also learns from training people
            who have features and pictures, but no LoRA.
        settings: how.
        checkpoint: folder of the checkpoints.
        canonical_form: as in the autoencoder's training.
        base: the base model that the LoRAs are for; ``effect`` needs it.
        people: their pictures; ``effect`` needs them.
        faces: the recogniser that made the features; ``effect.likeness`` needs it.
        start: a trained transformer to go on from; it is not changed.
        accelerator: see ``train``.
        on_log: see ``train``.
        on_effect_log: the same for ``effect``.
        progress: whether to show bars.

    Raises:
        BadParameter: if there are too few people, the parts do not fit together, or ``effect`` lacks base or people.
        BadFile: if corpus or checkpoint are damaged.
        DiffLoRAError: if the training goes wrong.
    """
    if settings.effect.enabled and (base is None or people is None):
        raise BadParameter("dit.effect is on: give the base model and the people's pictures, or switch it off")
    if lae.layout != corpus.layout:
        raise BadParameter(f"lae: LoRA layout {lae.layout.digest} where {corpus.layout.digest} is needed")
    accelerator = accelerator or make_accelerator()
    device = accelerator.device
    rows = LoraRows(corpus, "train", canonical_form=canonical_form)
    lae = lae.to(device).train(False)
    with torch.no_grad():
        latents = torch.cat([lae.encode(batch.to(device)) for batch in rows])  # (N, Z)
    seen = features.of(rows.names).to(device)
    transformer = _begin(lae, latents, seen, settings, start).to(device)
    fingerprint = {
        "dit": settings.model_dump(mode="json", exclude={"loop", "effect"}),
        "rows": rows.digest,
        "lae": weights_digest(lae),
        "start": None if start is None else weights_digest(start),
        "features": seen.digest,
    }
    folder = Path(checkpoint)
    report = train(
        "dit",
        DitTask(transformer, latents, seen, settings),
        rows.names,
        settings.loop,
        checkpoint=folder / "latents",
        fingerprint=fingerprint,
        accelerator=accelerator,
        on_log=on_log,
        progress=progress,
    )
    effect_report = None
    if settings.effect.enabled and base is not None and people is not None:
        lae = copy.deepcopy(lae)
        shown = features.of(_effect_names(rows.names, corpus, features, people)).to(device)
        effect_report = train_effect(
            transformer,
            lae,
            latents,
            shown,
            base,
            people,
            settings,
            checkpoint=folder / "effect",
            fingerprint={
                **fingerprint,
                "loop": settings.loop.model_dump(mode="json"),
                "base": base.weights,
                "shown": shown.digest,
            },
            accelerator=accelerator,
            framing=_framing(corpus),
            faces=faces,
            on_log=on_effect_log,
            progress=progress,
        )
    metrics = _measure(transformer, lae, corpus, rows, features, settings, canonical_form)
    return TrainedDit(transformer, lae, report, effect_report, metrics)


def _framing(corpus: Corpus) -> DreamBoothSettings:
    """How the corpus's LoRAs saw their pictures."""
    known = corpus.settings.get("dreambooth", {})
    return DreamBoothSettings(**{key: known[key] for key in ("resolution", "crop", "seed") if key in known})


def _effect_names(
    trained: Sequence[str], corpus: Corpus, features: ConditionFeatures, people: PeopleFolder
) -> list[str]:
    """Those with a LoRA first, then the other training people who have features alone."""
    others = [name for name in features.names if name not in corpus.places and people.line(name)["split"] == "train"]
    return [*trained, *others]


def _begin(
    lae: LoraAutoencoder,
    latents: Tensor,
    features: ConditionFeatures,
    settings: DitSettings,
    start: LoraTransformer | None,
) -> LoraTransformer:
    """A new transformer with the features' statistics and its linear skip fitted, or a copy of one to go on from."""
    face_dim, image_dim = features.face.shape[1], features.image.shape[1]
    if start is not None:
        sizes = (start.config.latent_size, start.config.face_dim, start.config.image_dim)
        if sizes != (lae.latent_size, face_dim, image_dim) or start.settings != settings.model:
            raise BadParameter("start: its sizes or settings are not those of lae, features and dit.model")
        return copy.deepcopy(start)
    with seeded(settings.loop.seed):
        transformer: LoraTransformer = LoraTransformer(
            latent_size=lae.latent_size,
            face_dim=face_dim,
            image_dim=image_dim,
            settings=settings.model.model_dump(mode="json"),
            face_encoder=features.face_encoder,
            image_encoder=features.image_encoder,
        ).to(latents.device)
    transformer.fit_features(features.face, features.image)
    if transformer.skip is not None:
        inputs = transformer.skip_inputs(*transformer.standardised(features.face, features.image))  # (M, F)
        fitted = fit_ridge(inputs, latents, features.owners, settings.ridge)
        with torch.no_grad():
            transformer.skip.weight.copy_(fitted.weight)
            transformer.skip.bias.copy_(fitted.bias)
    return transformer


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
        latents = _samples(transformer, features.of(part.names), settings)
        metrics[f"explained_{split}"] = explained_variance(lae, decoded(lae, part, latents)).total
    return metrics


def _samples(transformer: LoraTransformer, features: ConditionFeatures, settings: DitSettings) -> Tensor:
    """A latent (N, Z) of each person, in the few steps that measuring needs."""
    seen = features.to(transformer.face_mean.device)
    noise = settings.noise
    return sample_latents(
        transformer,
        make_scheduler(noise, settings.model.prediction_type),
        seen.face[seen.starts],
        seen.image[seen.starts],
        num_inference_steps=min(_STEPS_TO_MEASURE, noise.num_train_timesteps),
        generator=torch.Generator().manual_seed(settings.loop.seed),
    )
