from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from difflora.errors import BadFile
from difflora.files import write_json
from difflora.folders import read_json
from difflora.models import LoraAutoencoder, LoraTransformer, load_model, save_model

NAME = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(make_dit: Callable[..., Any], tmp_path: Path) -> Path:
    save_model(make_dit(), tmp_path / "model")
    return tmp_path / "model"


def _change(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / NAME)
    change(tensors)
    save_file(tensors, folder / NAME, {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("null"), "null is missing"),
        (lambda t: t.update(extra=torch.ones(1)), "extra is unknown"),
        (lambda t: t.update(null=torch.ones(3)), r"null is \(3,\) where \(16,\) is needed"),
        (lambda t: t["null"].fill_(float("nan")), "null holds NaN or Inf"),
    ],
)
def test_wrong_weights_are_named(folder: Path, change: Any, words: str) -> None:
    _change(folder, change)
    with pytest.raises(BadFile, match=words):
        load_model(LoraTransformer, folder)


def test_damaged_and_foreign_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="is of a LoraTransformer, not a LoraAutoencoder"):
        load_model(LoraAutoencoder, folder)
    with pytest.raises(BadFile, match="no such folder"):
        load_model(LoraTransformer, tmp_path / "nowhere")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"settings": config["settings"] | {"heads": 3}})
    with pytest.raises(BadFile, match="no multiple of heads = 3"):
        load_model(LoraTransformer, folder)
    write_json(folder / "config.json", {key: value for key, value in config.items() if key != "latent_size"})
    with pytest.raises(BadFile, match="latent_size"):
        load_model(LoraTransformer, folder)
    write_json(folder / "config.json", config)
    data = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(data[:-9])
    with pytest.raises(BadFile, match="not a whole safetensors file"):
        load_model(LoraTransformer, folder)


def test_configuration_names_no_folder(folder: Path, tmp_path: Path) -> None:
    loaded = LoraTransformer.from_pretrained(folder)
    save_model(loaded, tmp_path / "again")
    assert str(tmp_path) not in (tmp_path / "again" / "config.json").read_text()
