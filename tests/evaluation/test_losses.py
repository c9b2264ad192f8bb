from __future__ import annotations

import numpy as np
import torch

from difflora.evaluation.losses import losses
from difflora.evaluation.measure import Measured


def _rungs(noise: float = 0.01, **levels: float) -> dict[str, Measured]:
    generator = np.random.default_rng(0)
    return {
        name: Measured({"face_sim": level + generator.normal(0, noise, 24)}, torch.zeros(24, 1, 3, 2, 2))
        for name, level in levels.items()
    }


def test_the_autoencoder_loses_most() -> None:
    found = losses(_rungs(base=0.0, other=0.0, generated=0.3, reconstruction=0.35, teacher=0.6, real=0.9))
    assert set(found) == {"face_sim"}, "what was not measured is not there"
    one = found["face_sim"]
    steps = ["real_to_teacher", "teacher_to_reconstruction", "reconstruction_to_generated"]
    assert list(one["steps"]) == [*steps, "generated_to_other", "other_to_base"]
    assert (one["most"], one["clear"]) == ("teacher_to_reconstruction", True), "DreamBooth's own loss is no part of it"
    assert 0.23 < one["steps"][one["most"]]["low"] < 0.25 < one["steps"][one["most"]]["high"] < 0.27
    assert one["says"].startswith(
        "Most likeness is lost from the person's own DreamBooth LoRA to the autoencoder's reconstruction of it: 0.2"
    )
    assert "from real pictures to the person's own DreamBooth LoRA" in one["says"]


def test_the_transformer_loses_most() -> None:
    one = losses(_rungs(base=0.0, generated=0.1, reconstruction=0.35, teacher=0.4))["face_sim"]
    assert one["most"] == "reconstruction_to_generated"
    assert "real pictures" not in one["says"]


def test_nothing_is_lost_where_the_generated_lora_is_the_best() -> None:
    one = losses(_rungs(generated=0.5, reconstruction=0.4, teacher=0.4, noise=0.05))["face_sim"]
    assert not one["clear"]
    assert one["says"].startswith("No rung clearly loses likeness; the largest step is from")


def test_rungs_that_are_missing_leave_their_neighbours() -> None:
    one = losses(_rungs(base=0.0, generated=0.1, teacher=0.4))["face_sim"]
    assert list(one["steps"]) == ["teacher_to_generated", "generated_to_base"]
    assert one["most"] == "teacher_to_generated"
    alone = losses(_rungs(base=0.0, generated=0.1))["face_sim"]
    assert (alone["most"], alone["clear"], alone["says"]) == (None, False, "")
    assert losses(_rungs(base=0.0)) == {}
