"""Small weights in the public formats, laid out as parameters name them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.checkpoints import save_single_file, sd15_pipeline, sdxl_pipeline
from tests.image_reward_checkpoint import save_image_reward

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed: sdxl, sdxl.safetensors, sd15, clip, dino, reward, faces/models/world, recogniser.onnx."""
    folder = tmp_path_factory.mktemp("weights")
    pipeline = sdxl_pipeline()
    pipeline.save_pretrained(folder / "sdxl")
    save_single_file(pipeline, folder / "sdxl.safetensors")
    sd15_pipeline().save_pretrained(folder / "sd15")
    shutil.copytree(ASSETS / "clip", folder / "clip")
    shutil.copytree(ASSETS / "evaluation" / "dino", folder / "dino")
    save_image_reward(folder / "reward")
    shutil.copytree(ASSETS / "insightface", folder / "faces")
    shutil.copy(ASSETS / "evaluation" / "recogniser" / "recogniser.onnx", folder / "recogniser.onnx")
    return folder


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(pristine, tmp_path / "root")
    return tmp_path / "root"
