"""Tiny layouts, autoencoders and transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.lora import BaseModelId, LoraLayout, NormalisationSettings
from difflora.lora.layout import LoraModule
from difflora.models import DitModelSettings, LaeModelSettings, LoraAutoencoder, LoraTransformer

LAYOUT = LoraLayout((LoraModule("a.to_q", 9, 7), LoraModule("a.to_k", 8, 5)), 2)
"""58 numbers."""

LAE: dict[str, Any] = {
    "strides": (2, 3),
    "channels": (8, 8),
    "latent_channels": 2,
    "width": 8,
    "heads": 2,
    "layers": 1,
    "mlp_width": 16,
}
DIT: dict[str, Any] = {"num_tokens": 4, "width": 16, "heads": 2, "layers": 2, "mlp_ratio": 2.0}


@pytest.fixture(scope="session")
def layout() -> LoraLayout:
    return LAYOUT


@pytest.fixture
def make_lae() -> Callable[..., LoraAutoencoder]:
    """Makes a tiny autoencoder: latents of 10 places of 2 numbers."""

    def make(*, mode: str = "module", subtract_mean: bool = True, layout: LoraLayout = LAYOUT, **settings: Any) -> Any:
        torch.manual_seed(0)
        normalisation = NormalisationSettings(mode=mode, subtract_mean=subtract_mean)  # type: ignore[arg-type]
        chosen = LaeModelSettings(**(LAE | settings))
        return LoraAutoencoder.build(
            layout, chosen, normalisation, alpha=4.0, base=BaseModelId(name="tiny"), trigger_prompt="a photo of sks"
        ).train(False)

    return make


@pytest.fixture
def make_dit() -> Callable[..., LoraTransformer]:
    """Makes a tiny transformer whose every path is open, as after training."""

    def make(*, size: int = 20, face: int = 5, image: int = 3, wake: bool = True, **settings: Any) -> LoraTransformer:
        torch.manual_seed(1)
        chosen = DitModelSettings(**(DIT | settings)).model_dump(mode="json")
        made: LoraTransformer = LoraTransformer(latent_size=size, face_dim=face, image_dim=image, settings=chosen)
        if wake:
            with torch.no_grad():
                for parameter in made.parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape))
        return made.train(False)

    return make


@pytest.fixture
def rows() -> Tensor:
    """(12, 58): LoRAs of 12 people about a common mean, at the scale of real ones."""
    generator = torch.Generator().manual_seed(2)
    people = torch.randn(12, 4, generator=generator) @ torch.randn(4, LAYOUT.size, generator=generator)
    own = torch.randn(12, LAYOUT.size, generator=generator)
    return 0.02 * (people + 0.3 * own + 2 * torch.randn(LAYOUT.size, generator=generator))
