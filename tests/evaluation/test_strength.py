from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difflora.evaluation.measure import Measured
from difflora.evaluation.strength import choose_strengths
from difflora.evaluation.subjects import Subject


class Told:
    """Likeness grows with the rows' size, prompts are forgotten beyond 3."""

    def measure(self, subjects: Sequence[Subject], rows: Tensor | None) -> Measured:
        size = 0.0 if rows is None else float(rows.mean())
        scores = {"face_sim": np.array([size / 10]), "agreement": np.array([0.9 if size <= 3 else 0.7])}
        return Measured(scores, torch.zeros(1, 1, 3, 2, 2))


def _choose(margin: float, **rows: float) -> Any:
    scorer: Any = Told()
    flat = {name: torch.full((1, 2), value) for name, value in rows.items()}
    return choose_strengths(scorer, [], flat, torch.zeros(2), scorer.measure([], None), (1.0, 1.5, 2.0), margin)


def test_the_most_likeness_that_keeps_to_the_prompt() -> None:
    chosen, tried = _choose(0.05, weak=1.0, middle=2.0, strong=5.0)
    assert chosen == {"weak": 2.0, "middle": 1.5, "strong": 1.0}
    assert tried["middle"]["1.5"] == {"face_sim": 0.3, "agreement": 0.9}
    assert tried["middle"]["2"]["agreement"] == 0.7


def test_none_is_tried_beyond_the_first_that_forgets_prompts() -> None:
    chosen, tried = _choose(0.05, weak=1.0, middle=2.5, strong=5.0)
    assert {name: list(each) for name, each in tried.items()} == {
        "weak": ["1", "1.5", "2"],
        "middle": ["1", "1.5"],
        "strong": ["1"],
    }
    assert chosen["middle"] == 1.0


def test_strengths_are_tried_from_the_least_on() -> None:
    scorer: Any = Told()
    flat = {"middle": torch.full((1, 2), 2.0)}
    chosen, tried = choose_strengths(
        scorer, [], flat, torch.zeros(2), scorer.measure([], None), (2.0, 1.0, 0.5, 1.5), 0.05
    )
    assert list(tried["middle"]) == ["0.5", "1", "1.5", "2"]
    assert chosen == {"middle": 1.5}


def test_a_wide_margin_lets_likeness_decide() -> None:
    assert _choose(0.3, strong=5.0)[0] == {"strong": 2.0}
