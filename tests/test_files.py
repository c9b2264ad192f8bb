from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from difflora.errors import BadFile
from difflora.files import load_safetensors, save_safetensors, sha256_file, write_atomic, write_json


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file.bin"]


def test_failed_write_keeps_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_write_json_round_trip_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"a": [1, 2.5, None]}
    assert path.read_text().endswith("}\n")
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": [1, 2.5, None]}


def test_safetensors_round_trip_of_a_view(tmp_path: Path) -> None:
    path, tensor = tmp_path / "a.safetensors", torch.arange(12).reshape(3, 4).T
    save_safetensors(path, {"t": tensor}, {"key": "value"})
    assert torch.equal(load_safetensors(path)["t"], tensor)


@pytest.mark.parametrize("damage", ["missing", "truncated", "text"])
def test_bad_safetensors_names_the_file(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.safetensors"
    if damage != "missing":
        save_safetensors(path, {"t": torch.zeros(100)})
        path.write_bytes(path.read_bytes()[:200] if damage == "truncated" else b"hello, this is no tensor file")
    with pytest.raises(BadFile, match=r"a\.safetensors"):
        load_safetensors(path)


def test_sha256(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"abc")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
