"""``MANIFEST.json``: every stored file of the world's models with its sha256, and how each model came to be."""

from __future__ import annotations

import math
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from difflora.errors import BadFile
from difflora.files import sha256_file, write_json
from difflora.machine import processor
from difflora.world.bars import Bar
from difflora.world.registry import owner_of

MANIFEST = "MANIFEST.json"
_UNLISTED = (MANIFEST, "README.md")
_MEGABYTE = 1_000_000


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Record):
    """One file, with its path relative to the assets folder."""

    path: str
    bytes: int
    sha256: str


class BarRecord(_Record):
    """A bar as it was measured; ``goal`` and ``figure`` are null where they are not finite."""

    name: str
    goal: float | None
    figure: float | None
    at_least: bool
    passed: bool


class Machine(_Record):
    """What a training ran on."""

    cpu: str
    cores: int
    accelerator: str | None
    system: str
    python: str
    torch: str


class ModelRecord(_Record):
    """One model: how it was made, how it measures, and its files."""

    command: str
    steps: int
    seconds: float
    settings: dict[str, Any]
    machine: Machine
    date: str
    bars_seed: int | None = None
    bars: list[BarRecord] = []
    files: list[FileRecord]


class Manifest(_Record):
    """The whole file."""

    format: int = 1
    models: dict[str, ModelRecord] = {}

    @property
    def bytes(self) -> int:
        """The size of all listed files together."""
        return sum(file.bytes for model in self.models.values() for file in model.files)

    @property
    def megabytes(self) -> float:
        """The same in MB (10^6 bytes)."""
        return self.bytes / _MEGABYTE


def read_manifest(assets: Path) -> Manifest:
    """Reads the manifest of an assets folder.

    Raises:
        BadFile: if it is missing or not of this format.
    """
    path = assets / MANIFEST
    if not path.is_file():
        raise BadFile(f"{path}: no such file; `difflora world train` writes it")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadFile(f"{path}: {where}: {first['msg']}; restore it or train again") from error


def write_manifest(assets: Path, manifest: Manifest) -> None:
    """Writes the manifest, atomically."""
    write_json(assets / MANIFEST, manifest.model_dump(mode="json"))


def list_files(assets: Path, model: str) -> list[FileRecord]:
    """The files in an assets folder that belong to a model, by path."""
    found = [path for path in _stored(assets) if owner_of(path) == model]
    return [
        FileRecord(path=path, bytes=(assets / path).stat().st_size, sha256=sha256_file(assets / path)) for path in found
    ]


def stored_models(assets: Path) -> set[str]:
    """The names of the models that have files in an assets folder, listed or not."""
    return {owner for path in _stored(assets) if (owner := owner_of(path)) is not None}


def check_manifest(assets: Path) -> Manifest:
    """Compares every stored file with the manifest and gives the manifest.

    Raises:
        BadFile: naming the first file that is missing, changed, or not listed.
    """
    manifest = read_manifest(assets)
    listed = {file.path: file for model in manifest.models.values() for file in model.files}
    for path, file in listed.items():
        if not (assets / path).is_file():
            raise BadFile(f"{assets / path}: missing; restore it or train its model again")
        if (assets / path).stat().st_size != file.bytes or sha256_file(assets / path) != file.sha256:
            raise BadFile(f"{assets / path}: changed since the manifest was written; restore it or train again")
    for path in _stored(assets):
        if path not in listed:
            raise BadFile(f"{assets / path}: not listed in {MANIFEST}; remove it or train its model again")
    return manifest


def record_bars(bars: list[Bar]) -> list[BarRecord]:
    """Bars as they are stored."""
    return [
        BarRecord(
            name=bar.name,
            goal=_finite(bar.goal),
            figure=_finite(bar.figure),
            at_least=bar.at_least,
            passed=bar.passed,
        )
        for bar in bars
    ]


def describe_machine() -> Machine:
    """The machine that this runs on."""
    return Machine(
        cpu=processor(),
        cores=os.cpu_count() or 1,
        accelerator=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        system=platform.system(),
        python=platform.python_version(),
        torch=str(torch.__version__),
    )


def now() -> str:
    """The date and time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _stored(assets: Path) -> list[str]:
    paths = (path.relative_to(assets).as_posix() for path in assets.rglob("*") if path.is_file())
    return sorted(path for path in paths if path not in _UNLISTED)


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
