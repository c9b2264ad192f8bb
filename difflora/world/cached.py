"""Tensors that are drawn once, and then read from the folder of trainings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from difflora.files import load_safetensors, save_safetensors


def cached(work: Path, name: str, facts: bytes, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What ``make`` gives, from a file if it was made before.

    Args:
        work: the folder.
        name: what the file's name begins with.
        facts: all that decides what is made; other facts never meet an old file.
        make: makes it.
    """
    path = work / f"{name}-{hashlib.sha256(facts).hexdigest()[:8]}.safetensors"
    if not path.exists():
        save_safetensors(path, dict(make()))
    return load_safetensors(path)
