from __future__ import annotations

from collections.abc import Callable

import torch

from difflora.evaluation.rows import others, strengthened
from difflora.evaluation.subjects import Subject


def test_strength_moves_from_the_mean() -> None:
    rows, mean = torch.tensor([[3.0, 1.0]]), torch.tensor([1.0, 1.0])
    assert torch.equal(strengthened(rows, mean, 1.0), rows)
    assert torch.equal(strengthened(rows, mean, 1.5), torch.tensor([[4.0, 1.0]]))


def test_another_person_has_the_same_class_word(make_subject: Callable[..., Subject]) -> None:
    words = ["man", "woman", "man", "woman", "woman"]
    subjects = [make_subject(str(n), torch.eye(2)[0], word=word) for n, word in enumerate(words)]
    assert others(subjects) == [2, 3, 0, 4, 1]
    alone = [make_subject("0", torch.eye(2)[0]), make_subject("1", torch.eye(2)[0], word="woman")]
    assert others(alone) == [1, 0]
