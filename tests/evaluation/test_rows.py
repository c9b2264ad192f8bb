from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.evaluation.rows import Rivals, others, strengthened
from difflora.evaluation.settings import RegressionSettings
from difflora.evaluation.subjects import Subject
from difflora.models.linear_path import principal_components
from difflora.training import ConditionFeatures

PEOPLE, PICTURES, TRAITS = 120, 3, 6


@pytest.fixture(scope="module")
def town() -> tuple[Rivals, Tensor, Tensor, Tensor]:
    """Rivals of people whose LoRAs are linear in what faces show; face, image and rows of people unseen."""
    generator = torch.Generator().manual_seed(1)
    traits = torch.randn(PEOPLE + 20, TRAITS, generator=generator)
    rows = traits @ torch.randn(TRAITS, 50, generator=generator) + torch.randn(50, generator=generator)
    face = F.normalize(torch.cat([traits, torch.full((len(traits), 1), 4.0)], dim=1), dim=1)
    face = face.repeat_interleave(PICTURES, dim=0)
    face = F.normalize(face + 0.01 * torch.randn(face.shape, generator=generator), dim=1)
    image = F.normalize(torch.randn(len(face), 4, generator=generator), dim=1)
    cut = PEOPLE * PICTURES
    features = ConditionFeatures(
        tuple(f"p{n}" for n in range(PEOPLE)), face[:cut], image[:cut], torch.full((PEOPLE,), PICTURES)
    )
    mean, deviations, components = principal_components(rows[:PEOPLE], 8)
    settings = RegressionSettings(components=8, hidden=(64,), mlp_epochs=200)
    rivals = Rivals(mean, rows[:PEOPLE], features, components, deviations, settings, 0)
    return rivals, face[cut::PICTURES], image[cut::PICTURES], rows[PEOPLE:]


def _explained(rivals: Rivals, made: Tensor, rows: Tensor) -> float:
    return float(1 - (made - rows).square().sum() / (rows - rivals.mean).square().sum())


def test_retrieval_gives_a_training_persons_row_unchanged(town: tuple[Rivals, Tensor, Tensor, Tensor]) -> None:
    rivals, face, _, rows = town
    made = rivals.retrieval(face)
    for row in made:
        assert (rivals.rows == row).all(1).any()
    own = rivals.retrieval(rivals.features.face[::PICTURES])
    assert torch.equal(own, rivals.rows), "everyone is nearest to themselves"
    assert _explained(rivals, made, rows) > 0


def test_regressions_learn_what_there_is_to_learn(town: tuple[Rivals, Tensor, Tensor, Tensor]) -> None:
    rivals, face, image, rows = town
    assert _explained(rivals, rivals.ridge(face, image), rows) > 0.9
    assert _explained(rivals, rivals.mlp(face, image), rows) > 0.8
    assert torch.equal(rivals.mlp(face, image), rivals.mlp(face, image))


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
