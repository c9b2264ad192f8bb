"""A transformer that begins, and one that follows what latents have become."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.models import DitModelSettings, LoraAutoencoder, LoraTransformer
from difflora.training import ConditionFeatures, DitSettings
from difflora.training.on_latents import begin_transformer, moved_transformer
from difflora.training.reproducible import weights_digest


def _settings(**model: Any) -> DitSettings:
    return DitSettings(model=DitModelSettings(num_tokens=2, width=16, heads=2, layers=1, mlp_ratio=2.0, **model))


@pytest.fixture
def features(village: Any, names: list[str]) -> ConditionFeatures:
    """Of the training people."""
    found: ConditionFeatures = village.features.of(names)
    return found


def _straight(transformer: LoraTransformer, features: ConditionFeatures) -> Tensor:
    """What the skip makes of each picture."""
    assert transformer.skip is not None
    with torch.no_grad():
        seen = transformer.standardised(features.face, features.image)
        made: Tensor = transformer.skip(transformer.skip_inputs(*seen))
    return made


def _moves(features: ConditionFeatures, size: int) -> Tensor:
    """Of each person, which the face foretells."""
    generator = torch.Generator().manual_seed(0)
    return features.means(features.face) @ torch.randn(features.face.shape[1], size, generator=generator)


def test_every_picture_moves_as_its_person_does(
    lae: LoraAutoencoder, start: Tensor, features: ConditionFeatures
) -> None:
    first = begin_transformer(lae, start, features, _settings(linear_skip=True))
    before, moves = weights_digest(first), _moves(features, start.shape[1])
    moved = moved_transformer(first, moves, features, 1e-4)
    assert weights_digest(first) == before
    change = _straight(moved, features) - _straight(first, features)
    left = (change - moves[features.owners]).square().mean()
    assert left < 0.4 * moves.square().mean()
    again = moved_transformer(moved, moves, features, 1e-4)
    torch.testing.assert_close(_straight(again, features) - _straight(moved, features), change, rtol=1e-3, atol=1e-3)


def test_no_moves_leave_the_skip_as_it_is_whatever_the_penalty(
    lae: LoraAutoencoder, start: Tensor, features: ConditionFeatures
) -> None:
    """Pictures of a person do not agree, and what the skip makes of them is not given up for that."""
    first = begin_transformer(lae, start, features, _settings(linear_skip=True))
    for ridge in (1e-4, 100.0):
        assert weights_digest(moved_transformer(first, torch.zeros_like(start), features, ridge)) == weights_digest(
            first
        )


def test_a_penalty_makes_moves_smaller(lae: LoraAutoencoder, start: Tensor, features: ConditionFeatures) -> None:
    first = begin_transformer(lae, start, features, _settings(linear_skip=True))
    moves = _moves(features, start.shape[1])
    moves = moves - moves.mean(0)  # what all have in common is not penalised
    sizes = [
        (_straight(moved_transformer(first, moves, features, ridge), features) - _straight(first, features)).norm()
        for ridge in (0.1, 10.0, 1000.0)
    ]
    assert sizes[0] > 2 * sizes[1] > 20 * sizes[2]


def test_without_a_skip_it_is_a_copy(lae: LoraAutoencoder, start: Tensor, features: ConditionFeatures) -> None:
    first = begin_transformer(lae, start, features, _settings(linear_skip=False))
    moved = moved_transformer(first, torch.ones_like(start), features, 0.1)
    assert moved is not first
    assert weights_digest(moved) == weights_digest(first)
