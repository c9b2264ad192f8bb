from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difflora.evaluation.figures.denoising import chosen_steps, draw_denoising, measure_denoising
from difflora.evaluation.figures.settings import FigureSettings
from difflora.evaluation.measure import Measured
from difflora.evaluation.settings import EvaluateSettings
from difflora.evaluation.subjects import Subject

SETTINGS = EvaluateSettings(
    prompts=("a photo of {person}",), num_inference_steps=10, figures=FigureSettings(denoising_pictures=4)
)


def test_steps_are_evenly_spaced_and_the_ends_are_there() -> None:
    assert chosen_steps(10, 4) == [1, 4, 7, 10]
    assert chosen_steps(3, 6) == [1, 2, 3]
    assert chosen_steps(1, 6) == [1]


class _Lae:
    def decode(self, latents: Tensor, strength: float) -> Tensor:
        return strength * latents.repeat(1, 2)


class _Pipe:
    """The latent of person p after step k is 10 p + k, what is expected there 10 p + 10; features tell who it is."""

    lae = _Lae()

    def embed(self, images: Sequence[bytes]) -> tuple[Tensor, Tensor]:
        return torch.arange(len(images)).float()[:, None], torch.zeros(len(images), 1)

    def generate(self, face: Tensor, image: Tensor, **options: Any) -> tuple[Tensor, dict[str, float]]:
        assert len(options["generator"]) == len(face)
        for step in range(options["num_inference_steps"]):
            tensors = {"latents": 10 * face + step + 1, "pred_original_sample": 10 * face + 10}
            tensors = {name: tensors[name] for name in options["callback_on_step_end_tensor_inputs"]}
            assert options["callback_on_step_end"](self, step, 0, tensors) == tensors
        return face, {}


class _Told:
    """Likeness is the LoRA's first number, over 100; a picture is as bright."""

    def measure(self, subjects: Sequence[Subject], rows: Tensor | None) -> Measured:
        assert rows is not None
        assert len(subjects) == len(rows)
        bright = rows[:, 0] / 100
        pictures = (255 * bright).round().byte().view(-1, 1, 1, 1, 1).expand(-1, 1, 3, 16, 16)
        return Measured({"face_sim": bright.double().numpy()}, pictures)


def test_every_step_is_drawn_with_the_persons_own_lora(
    make_subject: Callable[..., Subject], opened: Callable[..., Any]
) -> None:
    subjects = [make_subject(f"p{number}", torch.eye(2)[0], prompts=1) for number in range(2)]
    pipe: Any = _Pipe()
    found = measure_denoising(pipe, subjects, _Told(), SETTINGS, 2.0)
    assert found.steps == [1, 4, 7, 10]
    assert found.scores["latents"] == pytest.approx(np.array([[2, 8, 14, 20], [22, 28, 34, 40]]) / 100)
    assert found.scores["pred_original_sample"] == pytest.approx(np.array([[20] * 4, [40] * 4]) / 100)
    assert found.pictures["latents"].shape == (2, 4, 3, 16, 16)
    assert float(found.pictures["latents"][1, 2].mean()) == pytest.approx(0.34, abs=0.003)
    assert float(found.references[0].mean()) == pytest.approx(90 / 255, abs=0.01)
    drawing = draw_denoising(found)
    assert "from 0.12 to 0.30" in drawing.caption
    assert "decoded at strength 2" in drawing.caption
    opened(drawing)
