"""Every method's LoRAs of the same people, as flat rows: the rungs between the base model and the teacher."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from difflora.corpus.reader import Corpus
from difflora.evaluation.settings import EvaluateSettings, RegressionSettings
from difflora.evaluation.subjects import Subject
from difflora.models import DiffLoRAPipeline, LoraAutoencoder
from difflora.models.linear_path import principal_components
from difflora.models.pipeline import StepCallback
from difflora.seeds import noise_seed
from difflora.training import ConditionFeatures
from difflora.training.ridge import fit_ridge
from difflora.training.rows import LoraRows


@dataclass(frozen=True)
class Rivals:
    """What the training people's LoRAs and features alone can do.

    Attributes:
        mean: (D,) the training people's mean LoRA.
        rows: (N, D) their LoRAs.
        features: their pictures' features.
        components: (K, D) principal components.
        deviations: (K,) of each component.
        settings: of the regressions.
    """

    mean: Tensor
    rows: Tensor
    features: ConditionFeatures
    components: Tensor
    deviations: Tensor
    settings: RegressionSettings
    seed: int

    @classmethod
    def of(cls, rows: LoraRows, features: ConditionFeatures, settings: RegressionSettings, seed: int = 0) -> Rivals:
        """Reads the training people's LoRAs and their principal components."""
        flat = torch.cat(list(rows))  # (N, D)
        mean, deviations, components = principal_components(flat, settings.components)
        return cls(mean, flat, features.of(rows.names), components, deviations, settings, seed)

    def retrieval(self, face: Tensor) -> Tensor:
        """The LoRA of the training person whose mean face is nearest: (P, Df) -> (P, D)."""
        owners = self.features.owners
        sums = torch.zeros(len(self.rows), face.shape[1]).index_add_(0, owners, self.features.face)
        nearest = (face @ F.normalize(sums).T).argmax(1)  # (P,)
        return self.rows[nearest]

    def ridge(self, face: Tensor, image: Tensor) -> Tensor:
        """Ridge regression from both features to principal components: -> (P, D)."""
        fitted = fit_ridge(_inputs(self.features.face, self.features.image), self._targets, self.features.owners)
        return self._rows(_inputs(face, image) @ fitted.weight.T + fitted.bias)

    def mlp(self, face: Tensor, image: Tensor) -> Tensor:
        """A multi-layer perceptron from both features to principal components: -> (P, D)."""
        scale = StandardScaler().fit(_inputs(self.features.face, self.features.image).numpy())
        network = MLPRegressor(
            hidden_layer_sizes=self.settings.hidden,
            max_iter=self.settings.mlp_epochs,
            early_stopping=True,
            n_iter_no_change=5,
            random_state=self.seed,
        )
        targets = self._targets[self.features.owners]  # (M, K)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(scale.transform(_inputs(self.features.face, self.features.image).numpy()), targets.numpy())
        made = network.predict(scale.transform(_inputs(face, image).numpy()))
        return self._rows(torch.from_numpy(made).float().reshape(len(face), -1))

    @property
    def _targets(self) -> Tensor:
        """(N, K) the training people's components at unit variance."""
        return (self.rows - self.mean) @ self.components.T / self.deviations

    def _rows(self, latents: Tensor) -> Tensor:
        return self.mean + (latents * self.deviations) @ self.components


def rows_of(
    subjects: Sequence[Subject],
    corpus: Corpus,
    rivals: Rivals,
    lae: LoraAutoencoder,
    pipeline: DiffLoRAPipeline,
    settings: EvaluateSettings,
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """Each method's LoRAs of the subjects.

    Seconds are those of one person, the others' share left out: ``encode`` where a method looks at the reference,
    ``sample`` and ``decode`` of the hypernetwork, ``decode`` of the autoencoder. What is done once for everyone, such
    as fitting a regression, is not a person's; nor is the teacher's training, which the corpus did.

    Args:
        subjects: P people.
        corpus: holds their teachers' LoRAs.
        rivals: what retrieval and regression know.
        lae: the autoencoder as it was trained on weights.
        pipeline: the hypernetwork, with encoders.
        settings: how it samples.

    Returns:
        Method -> (P, D) float32, all at strength 1, and method -> part -> seconds a person.
    """
    started = time.perf_counter()
    face, image = embed_subjects(subjects, pipeline)  # (P, Df), (P, Di)
    encode = {"encode": (time.perf_counter() - started) / len(subjects)}
    teacher = corpus.rows([corpus.places[subject.identity] for subject in subjects])  # (P, D)
    rows: dict[str, Tensor] = {}
    seconds: dict[str, dict[str, float]] = {}
    for method in settings.methods:
        match method:
            case "other":
                rows[method] = teacher[others(subjects)]
            case "retrieval":
                rows[method], seconds[method] = rivals.retrieval(face.cpu()), encode
            case "ridge":
                rows[method], seconds[method] = rivals.ridge(face.cpu(), image.cpu()), encode
            case "mlp":
                rows[method], seconds[method] = rivals.mlp(face.cpu(), image.cpu()), encode
            case "reconstruction":
                started = time.perf_counter()
                with torch.no_grad():
                    rows[method] = lae.decode(lae.encode(teacher.to(lae.mean.device))).cpu()
                seconds[method] = {"decode": (time.perf_counter() - started) / len(subjects)}
            case "generated":
                rows[method], parts = generate_rows(subjects, pipeline, face, image, settings)
                seconds[method] = encode | parts
            case "teacher":
                rows[method] = teacher
    return rows, seconds


def embed_subjects(subjects: Sequence[Subject], pipeline: DiffLoRAPipeline) -> tuple[Tensor, Tensor]:
    """The mean features of each subject's references, unit vectors (P, Df) and (P, Di)."""
    pictures = [picture for subject in subjects for picture in subject.references]
    face, image = (
        F.normalize(part.unflatten(0, (len(subjects), -1)).mean(1), dim=-1) for part in pipeline.embed(pictures)
    )
    return face, image


def generate_rows(
    subjects: Sequence[Subject],
    pipeline: DiffLoRAPipeline,
    face: Tensor,
    image: Tensor,
    settings: EvaluateSettings,
    callback_on_step_end: StepCallback | None = None,
    callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
) -> tuple[Tensor, dict[str, float]]:
    """The hypernetwork's LoRAs, each from noise of the person's own.

    Args:
        subjects: P people.
        pipeline: the hypernetwork.
        face: (P, Df) of ``embed_subjects``.
        image: (P, Di) likewise.
        settings: how it samples.
        callback_on_step_end: follows the sampler; see ``DiffLoRAPipeline``.
        callback_on_step_end_tensor_inputs: what it is told.

    Returns:
        (P, D) float32 at strength 1, and seconds a person of its parts.
    """
    flat, seconds = pipeline.generate(
        face,
        image,
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        generator=[
            torch.Generator().manual_seed(noise_seed(settings.seed, subject.identity, "lora")) for subject in subjects
        ],
        strength=1.0,
        callback_on_step_end=callback_on_step_end,
        callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
    )
    return flat, {key: value / len(subjects) for key, value in seconds.items()}


def others(subjects: Sequence[Subject]) -> list[int]:
    """For each person the place of the next one of the same class word, so that another's LoRA is not told by it."""
    places = []
    for place, subject in enumerate(subjects):
        order = [(place + step) % len(subjects) for step in range(1, len(subjects))]
        alike = [one for one in order if subjects[one].class_word == subject.class_word]
        places.append((alike or order or [place])[0])
    return places


def strengthened(rows: Tensor, mean: Tensor, strength: float) -> Tensor:
    """``mean + S (V - mean)``, (P, D)."""
    return rows if strength == 1.0 else mean + strength * (rows - mean)


def _inputs(face: Tensor, image: Tensor) -> Tensor:
    return torch.cat([face, image], dim=1)
