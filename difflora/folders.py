"""Folders of pretrained models: written whole or not at all, and looked over before a library opens them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from difflora.errors import BadFile


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write into; at the end it takes the place of ``folder``, also of an older one.

    If writing fails, ``folder`` stays as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    old = made.with_name(f"{made.name}.old")
    try:
        new = made / folder.name
        new.mkdir()
        yield new
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_json(path: Path, advice: str = "give a whole model folder") -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: the file.
        advice: what to do where it is missing.

    Raises:
        BadFile: if the file is missing or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such file; {advice}") from error
    except (ValueError, OSError) as error:
        raise BadFile(f"{path}: not readable as JSON ({error}); restore or remake it") from error
    if not isinstance(value, dict):
        raise BadFile(f"{path}: holds no JSON object; restore or remake it")
    return value


def check_model_folder(folder: Path, weights: str = "model.safetensors") -> dict[str, Any]:
    """Looks whether a pretrained model's folder is whole, and gives its ``config.json``.

    Args:
        folder: the folder.
        weights: name of the weights' file; where ``NAME.index.json`` lists shards, each of them is looked at.

    Raises:
        BadFile: if the folder, its configuration or its weights are missing, or the weights are cut short. Weights
            in other formats than safetensors are not looked for: pickles are never opened.
    """
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder; give the local folder of a model")
    config = read_json(folder / "config.json")
    index = folder / f"{weights}.index.json"
    names = sorted(set(read_json(index).get("weight_map", {}).values())) if index.exists() else [weights]
    for name in names:
        path = folder / str(name)
        if not path.is_file():
            raise BadFile(f"{path}: no such file; only safetensors weights are read")
        try:
            with safe_open(path, framework="pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise BadFile(f"{path}: not a whole safetensors file ({error}); restore or remake it") from error
    return config
