"""A transformer that begins, and one that follows what latents have become."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.models import DitModelSettings, LoraAutoencoder, LoraTransformer
from difflora.training import ConditionFeatures, DitSettings
from difflora.training.on_latents import begin_transformer, nearer_transformer
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


def test_the_skip_comes_nearer_and_keeps_what_it_knew(
    lae: LoraAutoencoder, start: Tensor, features: ConditionFeatures
) -> None:
    settings = _settings(linear_skip=True)
    first = begin_transformer(lae, start, features, settings)
    before = weights_digest(first)
    moved = start + 0.5 * features.means(features.face) @ torch.randn(
        features.face.shape[1], start.shape[1], generator=torch.Generator().manual_seed(0)
    )
    nearer = nearer_transformer(first, moved, features, settings)
    assert weights_digest(first) == before
    target = moved[features.owners]
    left = [(_straight(one, features) - target).square().mean() for one in (first, nearer)]
    assert left[1] < 0.6 * left[0]
    again = nearer_transformer(nearer, moved, features, settings)
    assert (_straight(again, features) - target).square().mean() < left[1], "nothing draws it back"


def test_without_a_skip_it_is_a_copy(lae: LoraAutoencoder, start: Tensor, features: ConditionFeatures) -> None:
    settings = _settings(linear_skip=False)
    first = begin_transformer(lae, start, features, settings)
    nearer = nearer_transformer(first, start + 1, features, settings)
    assert nearer is not first
    assert weights_digest(nearer) == weights_digest(first)
