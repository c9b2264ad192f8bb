from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difflora.evaluation.figures.quartiles import DRAWN, damage, draw_quartiles, measure_quartiles, quarters, work
from difflora.evaluation.measure import Measured
from difflora.evaluation.subjects import Subject
from difflora.lora import LoraLayout
from difflora.lora.layout import LoraModule

LAYOUT = LoraLayout((LoraModule("a.to_q", 2, 6),), 1)
"""8 numbers: 2 of B, then 6 of A."""


def test_quarters_are_by_magnitude_within_each_lora() -> None:
    rows = torch.tensor([[1.0, -8.0, 3.0, -2.0, 7.0, 5.0, -6.0, 4.0], [0.1, 0.2, -0.3, 0.4, 0.5, 0.6, -0.7, 0.8]])
    assert quarters(rows).tolist() == [[0, 3, 1, 0, 3, 2, 2, 1], [0, 0, 1, 1, 2, 2, 3, 3]]
    alike = quarters(torch.zeros(1, 8))
    assert alike[0].bincount().tolist() == [2, 2, 2, 2]


def test_damage_hits_one_quarter_alone() -> None:
    rows = torch.tensor([[1.0, -8.0, 3.0, -2.0, 7.0, 5.0, -6.0, 4.0]])
    assert damage(rows, 3, "zeroed", [0]).tolist() == [[1.0, 0.0, 3.0, -2.0, 0.0, 5.0, -6.0, 4.0]]
    assert damage(rows, 0, "zeroed", [0]).tolist() == [[0.0, -8.0, 3.0, 0.0, 7.0, 5.0, -6.0, 4.0]]
    noisy = damage(rows, 3, "perturbed", [5])
    assert (noisy != rows).nonzero()[:, 1].tolist() == [1, 4]
    assert torch.equal(noisy, damage(rows, 3, "perturbed", [5]))
    assert not torch.equal(noisy, damage(rows, 3, "perturbed", [6]))


def test_noise_has_the_spread_of_the_quarter_itself() -> None:
    rows = torch.randn(1, 40_000, generator=torch.Generator().manual_seed(0))
    for quarter in (0, 3):
        hit = quarters(rows) == quarter
        added = (damage(rows, quarter, "perturbed", [1]) - rows)[hit]
        assert float(added.std()) == pytest.approx(float(rows[hit].std()), rel=0.03)
        assert abs(float(added.mean())) < 0.05 * float(rows[hit].std())


class _Told:
    """A person's likeness is the sum of magnitudes, over 100; the other recogniser sees half of it."""

    def __init__(self) -> None:
        self.calls = 0

    def measure(self, subjects: Sequence[Subject], rows: Tensor | None) -> Measured:
        self.calls += 1
        values = np.zeros(len(subjects)) if rows is None else rows.abs().sum(1).double().numpy() / 100
        return Measured({"face_sim": values, "face_sim_independent": values / 2}, torch.zeros(1))


def test_likeness_lost_is_that_of_the_weights_gone(
    make_subject: Callable[..., Subject], opened: Callable[..., Any]
) -> None:
    subjects = [make_subject(f"p{number}", torch.eye(2)[0], prompts=3) for number in range(3)]
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]).repeat(3, 1) * torch.tensor([[1.0], [1.0], [2.0]])
    scorer = _Told()
    found = measure_quartiles(subjects, rows, LAYOUT, scorer, 0)
    assert (found.people, found.prompts, scorer.calls) == (3, 3, DRAWN)
    assert work(3, 3) == 3 * 3 * scorer.calls
    assert found.base["face_sim"]["mean"] == 0
    assert found.intact["face_sim"]["mean"] == pytest.approx(0.48)
    zeroed = [one["mean"] for one in found.damaged["zeroed"]["face_sim"]]
    assert zeroed == pytest.approx([(36 - lost) / 75 for lost in (3, 7, 11, 15)])
    drop = found.drop["zeroed"]["face_sim_independent"]
    assert [one["mean"] for one in drop] == pytest.approx([lost / 150 for lost in (3, 7, 11, 15)])
    assert drop[3]["low"] < drop[3]["mean"] < drop[3]["high"], "people differ"
    assert found.share_a == [0.0, 1.0, 1.0, 1.0], "B's two numbers are the smallest"
    drawing = draw_quartiles(found)
    assert "3 held-out people, 3 prompts each" in drawing.caption
    assert "largest quarter zeroed: 0.200" in drawing.caption
    assert "0%, 100%, 100%, 100%" in drawing.caption
    opened(drawing)
