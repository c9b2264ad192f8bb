from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.errors import BadParameter
from difflora.evaluation import rivals as module
from difflora.evaluation.rivals import Rivals
from difflora.evaluation.settings import RegressionSettings
from difflora.models.linear_path import principal_components
from difflora.training import ConditionFeatures
from difflora.training.ridge import fit_ridge

PEOPLE, PICTURES, TRAITS, SIZE = 120, 3, 6, 50


class Rows:
    """Training people's LoRAs, and how many were asked for at once."""

    def __init__(self, flat: Tensor) -> None:
        self.flat, self.most = flat, 0
        self.names = [f"p{n}" for n in range(len(flat))]
        self.layout = SimpleNamespace(size=flat.shape[1])

    def __len__(self) -> int:
        return len(self.flat)

    def take(self, places: Sequence[int] | Tensor) -> Tensor:
        self.most = max(self.most, len(places))
        return self.flat[torch.as_tensor(places)]


@pytest.fixture(scope="module")
def town() -> tuple[Tensor, ConditionFeatures, Tensor, Tensor, Tensor]:
    """People whose LoRAs are linear in what faces show, and their features; face, image and rows of people unseen."""
    generator = torch.Generator().manual_seed(1)
    traits = torch.randn(PEOPLE + 20, TRAITS, generator=generator)
    rows = traits @ torch.randn(TRAITS, SIZE, generator=generator) + 5 * torch.randn(SIZE, generator=generator)
    face = F.normalize(torch.cat([traits, torch.full((len(traits), 1), 4.0)], dim=1), dim=1)
    face = face.repeat_interleave(PICTURES, dim=0)
    face = F.normalize(face + 0.01 * torch.randn(face.shape, generator=generator), dim=1)
    image = F.normalize(torch.randn(len(face), 4, generator=generator), dim=1)
    cut = PEOPLE * PICTURES
    features = ConditionFeatures(
        tuple(f"p{n}" for n in range(PEOPLE)), face[:cut], image[:cut], torch.full((PEOPLE,), PICTURES)
    )
    return rows[:PEOPLE], features, face[cut::PICTURES], image[cut::PICTURES], rows[PEOPLE:]


def _rivals(flat: Tensor, features: ConditionFeatures, **settings: Any) -> Rivals:
    rows: Any = Rows(flat)
    chosen = RegressionSettings.model_validate(
        {"components": 8, "hidden": (64,), "mlp_epochs": 200, "ridge": None, **settings}
    )
    return Rivals.of(rows, features, chosen, 0)


def _explained(rivals: Rivals, made: Tensor, rows: Tensor) -> float:
    return float(1 - (made - rows).square().sum() / (rows - rivals.mean).square().sum())


Town = tuple[Tensor, ConditionFeatures, Tensor, Tensor, Tensor]


def test_retrieval_gives_a_training_persons_row_unchanged(town: Town) -> None:
    flat, features, face, _, rows = town
    rivals = _rivals(flat, features, people=10)
    made = rivals.retrieval(face)
    for row in made:
        assert (flat == row).all(1).any()
    own = rivals.retrieval(features.face[::PICTURES])
    assert torch.equal(own, flat), "everyone is nearest to themselves, however few the regressions learn from"
    assert _explained(rivals, made, rows) > 0


def test_regressions_learn_what_there_is_to_learn(town: Town) -> None:
    flat, features, face, image, rows = town
    rivals = _rivals(flat, features)
    assert _explained(rivals, rivals.ridge(face, image), rows) > 0.9
    assert _explained(rivals, rivals.mlp(face, image), rows) > 0.8
    assert torch.equal(rivals.mlp(face, image), rivals.mlp(face, image))


@pytest.mark.parametrize("people", [PEOPLE, 50])
def test_rows_in_blocks_give_the_regression_on_principal_components(
    town: Town, people: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat, features, face, image, _ = town
    monkeypatch.setattr(module, "BLOCK_BYTES", 7 * 4 * SIZE)
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 64)
    rivals = _rivals(flat, features, people=people, components=4)
    made = rivals.ridge(face, image)
    rows: Any = rivals.rows
    assert rows.most == 7, "never more LoRAs than a block holds"
    mean, deviations, components = principal_components(flat[:people], 4)
    known = features.of([f"p{n}" for n in range(people)])
    targets = (flat[:people] - mean) @ components.T / deviations
    fitted = fit_ridge(torch.cat([known.face, known.image], 1), targets, known.owners)
    latents = torch.cat([face, image], 1) @ fitted.weight.T + fitted.bias
    torch.testing.assert_close(rivals.mean, mean)
    torch.testing.assert_close(made, mean + (latents * deviations) @ components, atol=1e-3, rtol=1e-4)


def test_one_person_is_too_few(town: Town) -> None:
    flat, features, *_ = town
    with pytest.raises(BadParameter, match="PCA of 1 LoRAs: give at least 2 people"):
        _rivals(flat[:1], features)
