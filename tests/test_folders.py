"""Model folders: replaced whole or left alone; what is missing or cut short is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from difflora.errors import BadFile
from difflora.files import save_safetensors
from difflora.folders import check_model_folder, whole_folder


def _write(folder: Path, weights: str = "model.safetensors") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"a": 1}))
    save_safetensors(folder / weights, {"x": torch.zeros(100)})


def test_whole_folder_replaces_an_older_one(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with whole_folder(tmp_path / "a" / "model") as folder:
            (folder / content).write_text(content)
    assert [p.name for p in (tmp_path / "a").rglob("*")] == ["model", "new"]


def test_whole_folder_leaves_the_old_one_after_a_failure(tmp_path: Path) -> None:
    _write(tmp_path / "model")
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "model") as folder:
        _write(folder / "no" / "such")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["config.json", "model", "model.safetensors"]


def test_check_gives_the_configuration(tmp_path: Path) -> None:
    _write(tmp_path / "m")
    assert check_model_folder(tmp_path / "m") == {"a": 1}


def test_check_looks_at_each_shard(tmp_path: Path) -> None:
    _write(tmp_path / "m", "model-1.safetensors")
    index = {"weight_map": {"x": "model-1.safetensors", "y": "model-2.safetensors"}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadFile, match="model-2"):
        check_model_folder(tmp_path / "m")


@pytest.mark.parametrize("fault", ["folder", "config", "json", "list", "weights", "pickle", "cut"])
def test_check_names_the_fault(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "m"
    _write(folder)
    weights = folder / "model.safetensors"
    expected = {
        "folder": "no such folder",
        "config": "config.json: no such file",
        "json": "not readable as JSON",
        "list": "no JSON object",
        "weights": "only safetensors",
        "pickle": "only safetensors",
        "cut": "not a whole safetensors",
    }[fault]
    if fault == "folder":
        folder = tmp_path / "other"
    elif fault == "config":
        (folder / "config.json").unlink()
    elif fault in ("json", "list"):
        (folder / "config.json").write_text("{" if fault == "json" else "[]")
    elif fault in ("weights", "pickle"):
        weights.rename(folder / ("pytorch_model.bin" if fault == "pickle" else "weights"))
    else:
        weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(BadFile, match=expected):
        check_model_folder(folder)
