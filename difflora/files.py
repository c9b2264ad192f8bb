"""Writing files so that a reader sees the old content or the new, never a part of it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from difflora.errors import BadFile

if TYPE_CHECKING:
    from torch import Tensor


def write_atomic(path: str | Path, data: bytes) -> None:
    """Writes ``data`` to ``path``: a temporary name beside it, fsync, rename."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Gives a file to write, under a temporary name, which takes the place of ``path`` if nothing is raised."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as indented JSON with a final newline, atomically; NaN is refused."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def save_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes named tensors as one safetensors file, atomically."""
    import safetensors.torch

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, safetensors.torch.save(contiguous, dict(metadata) if metadata else None))


def load_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Reads a safetensors file (memory-mapped).

    Raises:
        BadFile: if it is missing or is no whole safetensors file.
    """
    import safetensors.torch

    path = Path(path)
    if not path.is_file():
        raise BadFile(f"{path}: no such file")
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:
        raise BadFile(f"{path}: not a readable safetensors file ({error}); restore or remake it") from error


def sha256_file(path: str | Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
