"""Every method's LoRAs of the same people, as flat rows: the rungs between the base model and the teacher."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.corpus.reader import Corpus
from difflora.evaluation.rivals import Rivals
from difflora.evaluation.settings import EvaluateSettings
from difflora.evaluation.subjects import Subject
from difflora.models import DiffLoRAPipeline, LoraAutoencoder
from difflora.models.pipeline import StepCallback
from difflora.seeds import noise_seed


def rows_of(
    subjects: Sequence[Subject],
    corpus: Corpus,
    rivals: Rivals,
    lae: LoraAutoencoder,
    pipeline: DiffLoRAPipeline,
    settings: EvaluateSettings,
    train_seconds: float | None = None,
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """Each method's LoRAs of the subjects.

    Seconds are those of one person, the others' share left out: ``encode`` where a method looks at the reference,
    ``sample`` and ``decode`` of the hypernetwork, ``decode`` of the autoencoder, ``train`` of the teacher, without
    which there is no reconstruction either. What is done once for everyone, such as fitting a regression, is not a
    person's.

    Args:
        subjects: P people.
        corpus: holds their teachers' LoRAs.
        rivals: what retrieval and regression know.
        lae: the autoencoder as it was trained on weights.
        pipeline: the hypernetwork, with encoders.
        settings: how it samples.
        train_seconds: of a teacher's LoRA, as the corpus measured them; None where it did not.

    Returns:
        Method that gives a LoRA -> (P, D) float32, all at strength 1, and method -> part -> seconds a person.
    """
    started = time.perf_counter()
    face, image = embed_subjects(subjects, pipeline)  # (P, Df), (P, Di)
    encode = {"encode": (time.perf_counter() - started) / len(subjects)}
    train = {} if train_seconds is None else {"train": train_seconds}
    teacher = corpus.rows([corpus.places[subject.identity] for subject in subjects])  # (P, D)
    rows: dict[str, Tensor] = {}
    seconds: dict[str, dict[str, float]] = {}
    for method in settings.lora_methods:
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
                seconds[method] = train | {"decode": (time.perf_counter() - started) / len(subjects)}
            case "generated":
                rows[method], parts = generate_rows(subjects, pipeline, face, image, settings)
                seconds[method] = encode | parts
            case "teacher":
                rows[method], seconds[method] = teacher, train
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
