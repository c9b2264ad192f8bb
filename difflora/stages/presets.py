"""Presets: whole parameter files, found in the repository or in the installed package."""

from __future__ import annotations

from pathlib import Path

import difflora
from difflora.errors import BadParameter
from difflora.files import write_atomic
from difflora.stages.params import load_params


def presets_folder() -> Path:
    """Where they lie: ``presets`` of the repository, or of the package, into which a wheel puts that folder."""
    package = Path(difflora.__file__).resolve().parent
    installed = package / "presets"
    return installed if installed.is_dir() else package.parent / "presets"


def preset_names() -> list[str]:
    """All presets, by name."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def preset_path(name: str) -> Path:
    """A preset's file.

    Raises:
        BadParameter: if there is none of this name.
    """
    if name not in preset_names():
        raise BadParameter(f"no preset is named {name!r}; there are: {', '.join(preset_names()) or 'none'}")
    return presets_folder() / f"{name}.yaml"


def head(path: Path) -> list[str]:
    """The comment that a parameter file begins with, without its marks."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def use_preset(name: str, target: Path, *, force: bool = False) -> None:
    """Copies a preset to a parameter file, byte for byte and whole or not at all.

    Args:
        name: the preset's.
        target: ``params.yaml`` of a workspace.
        force: whether a file of other parameters is replaced.

    Raises:
        BadParameter: if there is no such preset, it is not valid, or ``target`` holds other parameters.
    """
    path = preset_path(name)
    load_params(path)
    data = path.read_bytes()
    if target.exists() and not force:
        if target.is_file() and target.read_bytes() == data:
            return
        raise BadParameter(f"{target}: is there and differs from preset {name}; keep a copy and give --force")
    write_atomic(target, data)
