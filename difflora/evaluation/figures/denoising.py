"""Fig. 8a: pictures along the denoising of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difflora.encoders.pictures import read_picture
from difflora.evaluation.figures.canvas import Array, Drawing
from difflora.evaluation.figures.picture_table import picture_table
from difflora.evaluation.figures.quartiles import Scores
from difflora.evaluation.rows import embed_subjects, generate_rows
from difflora.evaluation.settings import EvaluateSettings
from difflora.evaluation.subjects import Subject
from difflora.grid import as_tensor
from difflora.models import DiffLoRAPipeline

KINDS = {"latents": "LoRA after the step", "pred_original_sample": "LoRA that the step expects"}
"""What is decoded: x_t, and the prediction of x0."""


@dataclass(frozen=True)
class Denoising:
    """Pictures of P people at S steps of the sampler.

    Attributes:
        references: (P, 3, H, W) float32, what the hypernetwork was shown.
        prompts: what was drawn of each.
        strength: of the LoRAs.
        steps: S numbers of steps done, rising; the last is all of them.
        pictures: kind -> (P, S, 3, H, W) float32 in [0, 1].
        scores: kind -> (P, S) likeness.
    """

    references: Tensor
    prompts: list[str]
    strength: float
    steps: list[int]
    pictures: dict[str, Tensor]
    scores: dict[str, Array]


def chosen_steps(total: int, count: int) -> list[int]:
    """At most ``count`` numbers of steps from 1 to ``total``, evenly spaced, both ends among them."""
    return sorted({round(float(step)) for step in np.linspace(1, total, min(count, total))})


def follow(
    pipeline: DiffLoRAPipeline,
    subjects: Sequence[Subject],
    settings: EvaluateSettings,
    strength: float,
    steps: Sequence[int],
) -> dict[str, Tensor]:
    """The LoRAs at some steps of the sampling: kind -> (P, S, D) float32, on the CPU.

    Args:
        pipeline: the hypernetwork, with encoders.
        subjects: P people.
        settings: how it samples.
        strength: of the decoded LoRAs.
        steps: numbers of steps done.
    """
    kept: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}

    def keep(pipe: DiffLoRAPipeline, step: int, timestep: int, tensors: dict[str, Tensor]) -> Mapping[str, Tensor]:
        if step + 1 in steps:
            for kind, found in kept.items():
                found.append(pipe.lae.decode(tensors[kind], strength).cpu())  # (P, D)
        return tensors

    generate_rows(subjects, pipeline, *embed_subjects(subjects, pipeline), settings, keep, tuple(KINDS))
    return {kind: torch.stack(found, dim=1) for kind, found in kept.items()}


def measure_denoising(
    pipeline: DiffLoRAPipeline,
    subjects: Sequence[Subject],
    scorer: Scores,
    settings: EvaluateSettings,
    strength: float,
) -> Denoising:
    """Samples everyone's LoRA, and draws and scores what it is on the way.

    Args:
        pipeline: the hypernetwork, with encoders.
        subjects: P people, with one prompt each.
        scorer: draws and scores.
        settings: how LoRAs are sampled, and how many steps are drawn.
        strength: of the LoRAs.
    """
    steps = chosen_steps(settings.num_inference_steps, settings.figures.denoising_pictures)
    rows = follow(pipeline, subjects, settings, strength, steps)
    again = [subject for subject in subjects for _ in steps]
    found = {kind: scorer.measure(again, flat.flatten(0, 1)) for kind, flat in rows.items()}
    size = next(iter(found.values())).pictures.shape[-2:]
    return Denoising(
        torch.cat([as_tensor(read_picture(subject.reference), (size[0], size[1])) for subject in subjects]),
        [subject.prompts[0] for subject in subjects],
        strength,
        steps,
        {kind: one.pictures[:, 0].unflatten(0, (-1, len(steps))).float() / 255 for kind, one in found.items()},
        {kind: one.scores["face_sim"].reshape(-1, len(steps)) for kind, one in found.items()},
    )


def draw_denoising(denoising: Denoising) -> Drawing:
    """Two rows a person: x_t and the expected x0; the reference to the left, likeness under each picture."""
    rows: list[list[Tensor | None]] = []
    marks: list[list[str]] = []
    labels = []
    for place, prompt in enumerate(denoising.prompts):
        for kind, said in KINDS.items():
            first = kind == next(iter(KINDS))
            rows.append([denoising.references[place] if first else None, *denoising.pictures[kind][place]])
            marks.append(["", *(f"{value:.2f}" for value in denoising.scores[kind][place])])
            labels.append(f"{prompt}: {said}" if first else said)
    columns = ["reference", *(f"step {step}" for step in denoising.steps)]
    ends: dict[str, Any] = {kind: scores.mean(0) for kind, scores in denoising.scores.items()}
    expected, reached = ends["pred_original_sample"], ends["latents"]
    said = (
        f"mean likeness goes from {reached[0]:.2f} to {reached[-1]:.2f}, that of the expected LoRA from "
        f"{expected[0]:.2f} to {expected[-1]:.2f}"
    )
    return Drawing(
        picture_table(rows, labels, columns, marks),
        "Fig. 8a: pictures along the denoising of the weights",
        f"The latent of a LoRA after steps {', '.join(map(str, denoising.steps))} of the sampler, decoded at strength "
        f"{denoising.strength:g}, merged and drawn with the same prompt and noise; the second row of a person shows "
        "what the model expects the clean LoRA to be at that step. Numbers are likeness with other pictures of "
        f"the person; {len(denoising.prompts)} held-out people, the first ones, none chosen: {said}.",
        f"A grid of faces, two rows a person, that takes shape from left to right: {said}.",
    )
