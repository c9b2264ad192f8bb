"""The tiny SDXL of the chain's tests, frozen, and a LoRA for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from difflora.corpus.base import FrozenBase
from difflora.lora import LoraLayout, LoraWeights


@pytest.fixture(scope="session")
def base_folder(chain_base: Path) -> Path:
    """The tiny model as a diffusers folder."""
    return chain_base


@pytest.fixture
def base(base_folder: Path) -> FrozenBase:
    """The tiny model, frozen."""
    return FrozenBase.open(base_folder, "tiny")


@pytest.fixture
def lora(base: FrozenBase) -> LoraWeights:
    """A LoRA that is seen in pictures; alpha is not the rank."""
    layout = LoraLayout.from_unet(base.unet, ["attention", "feed_forward"], 3)
    flat = 0.3 * torch.randn(layout.size, generator=torch.Generator().manual_seed(1))
    return LoraWeights(layout, flat, base.name, alpha=4.5, scale=0.8)
