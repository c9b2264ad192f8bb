"""A base model from a single file is the one of its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from difflora.corpus.base import FrozenBase
from difflora.errors import BadFile
from tests.checkpoints import save_single_file, sdxl_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``sdxl``, ``sdxl.safetensors``, and ``configs``: the same folder without weights."""
    folder = tmp_path_factory.mktemp("single")
    pipeline = sdxl_pipeline()
    pipeline.save_pretrained(folder / "sdxl")
    save_single_file(pipeline, folder / "sdxl.safetensors")
    shutil.copytree(folder / "sdxl", folder / "configs", ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def test_a_single_file_needs_configurations_alone(folder: Path) -> None:
    whole = FrozenBase.open(folder / "sdxl", "one")
    single = FrozenBase.open(folder / "configs", "one", file=folder / "sdxl.safetensors")
    assert single.name == whole.name
    assert single.is_xl
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        expected, found = (getattr(each.pipeline, part).state_dict() for each in (whole, single))
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items()), part
    assert single.weights
    assert single.weights != whole.weights
    assert whole.weights == FrozenBase.open(folder / "sdxl").weights


def test_what_is_no_checkpoint_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((folder / "sdxl.safetensors").read_bytes()[:-100])
    for file, said in (
        (folder / "none.safetensors", r"none\.safetensors: no such file"),
        (folder / "model.ckpt", r"model\.ckpt: only \.safetensors are read"),
        (cut, r"cut\.safetensors: the base model cannot be read"),
    ):
        with pytest.raises(BadFile, match=said):
            FrozenBase.open(folder / "configs", file=file)
