"""A small SDXL with every path awake, and a small PhotoMaker v1 for it: the public pickle, and what we keep of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from difflora.photomaker.convert import convert_photomaker
from difflora.photomaker.file import PhotoMakerFile
from tests.checkpoints import photomaker_v1, sdxl_pipeline
from tests.tiny import wake


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """The base model; whoever changes it gives it back as it was."""
    made = sdxl_pipeline()
    wake(made.unet)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="session")
def public(pipeline: Any) -> dict[str, dict[str, torch.Tensor]]:
    """The content of the public file."""
    return photomaker_v1(pipeline.unet)


@pytest.fixture(scope="session")
def kept(public: dict[str, dict[str, torch.Tensor]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``photomaker-v1.safetensors``, converted from ``photomaker-v1.bin`` beside it."""
    folder = tmp_path_factory.mktemp("photomaker")
    torch.save(public, folder / "photomaker-v1.bin")
    convert_photomaker(folder / "photomaker-v1.bin", folder / "photomaker-v1.safetensors")
    return folder / "photomaker-v1.safetensors"


@pytest.fixture
def file(kept: Path) -> PhotoMakerFile:
    """It, read."""
    return PhotoMakerFile.open(kept)


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """Three pictures that differ."""
    drawn = np.random.default_rng(0).integers(0, 255, (3, 5, 5, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((40, 48)) for one in drawn]
