from __future__ import annotations

import pytest
import torch

from difflora.lora import LoraLayout, NormalisationSettings
from difflora.lora.layout import LoraModule
from difflora.models import LaeModelSettings, LoraAutoencoder
from difflora.training.explained import decoded, explained_variance, reconstructions

LAYOUT = LoraLayout((LoraModule("a", 9, 7), LoraModule("b", 8, 5)), 2)
MODEL = LaeModelSettings(linear_path=True, networks=False, strides=(6,), channels=(8,), latent_channels=2)


def test_fractions_by_hand_in_total_and_for_each_module() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(10, LAYOUT.size, generator=generator)
    rows[:, : LAYOUT.slices["a"].stop] *= 100  # normalised away: modules count alike
    lae = LoraAutoencoder.build(LAYOUT, MODEL, NormalisationSettings())
    lae.fit_normalisation([rows])
    made = rows.clone()
    made[:, LAYOUT.slices["b"]] = rows[:, LAYOUT.slices["b"]].mean(0)
    found = explained_variance(lae, [(rows[:4], made[:4]), (rows[4:], made[4:])])
    assert found.modules == {"a": 1.0, "b": pytest.approx(0.0, abs=1e-5)}
    share = (9 + 7) / (9 + 7 + 8 + 5)
    assert found.total == pytest.approx(share, abs=1e-4)


def test_reconstructions_and_decoded_latents() -> None:
    rows = torch.randn(10, LAYOUT.size, generator=torch.Generator().manual_seed(0))
    lae = LoraAutoencoder.build(LAYOUT, MODEL, NormalisationSettings())
    lae.fit_normalisation([rows])
    lae.linear.start_from(lae.normalisation.apply(rows))  # 10 people have 9 components, the latent 20
    batches = [rows[:7], rows[7:]]
    assert explained_variance(lae, reconstructions(lae, batches)).total == pytest.approx(1.0, abs=1e-5)
    with torch.no_grad():
        latents = lae.encode(rows)
    assert explained_variance(lae, decoded(lae, batches, latents)).total == pytest.approx(1.0, abs=1e-5)
    mean = explained_variance(lae, decoded(lae, batches, torch.zeros_like(latents)))
    assert mean.total == pytest.approx(0.0, abs=1e-5)
