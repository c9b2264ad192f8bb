"""The hub is asked for one commit and for formats that are never unpickled; no test reaches it."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import pytest

from difflora.errors import BadFile, BadParameter
from difflora.weights.fetch import fetch, patterns
from difflora.weights.need import Need

REVISION = "0123456789" * 4
NEED = Need("models.base.folder", "pipeline", Path("weights/base"), "owner/name", REVISION)


def taken(need: Need, names: list[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns(need))]


def test_only_what_is_read_is_taken() -> None:
    """Not other precisions, frameworks, pictures and checkpoints, which public repositories hold beside it."""
    wanted = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer_2/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    others = [
        "01.png",
        "README.md",
        "sd_xl_base_1.0.safetensors",
        "text_encoder/flax_model.msgpack",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/model.onnx",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/model.onnx_data",
        "vae_1_0/diffusion_pytorch_model.safetensors",
        "v1-5-pruned.ckpt",
    ]
    assert taken(NEED, wanted + others) == wanted
    configs = Need("models.base.folder", "pipeline", Path("weights/base"), "owner/name", REVISION, weights=False)
    assert taken(configs, wanted) == [name for name in wanted if not name.endswith(".safetensors")]
    clip = Need("models.images", "CLIP", Path("weights/clip"), "owner/name", REVISION)
    assert taken(clip, ["config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "vocab.json"]) == [
        "config.json",
        "model.safetensors",
    ]


def test_the_pinned_commit_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **options: asked.append((name, options)))
    fetch(NEED, tmp_path)
    (name, options) = asked[0]
    assert name == "owner/name"
    assert options["revision"] == REVISION
    assert options["local_dir"] == tmp_path / "weights" / "base"
    allowed = options["allow_patterns"]
    assert all(pattern.endswith((".json", ".txt", ".safetensors")) for pattern in allowed)


def test_what_may_not_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def away(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    with pytest.raises(BadParameter, match="owner/name has no pinned revision; give the commit's 40"):
        fetch(Need("models.images", "CLIP", Path("clip"), "owner/name"), tmp_path)
    with pytest.raises(BadParameter, match="is not taken from the hub; unpack InsightFace's release"):
        fetch(Need("models.faces.folder", "face pack", Path("faces/models/buffalo_l")), tmp_path)
    with pytest.raises(
        BadFile, match=r"cannot be fetched \(no route to host\).*copy the files to weights/base by hand"
    ):
        fetch(NEED, tmp_path)
