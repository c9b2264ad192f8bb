"""The sha256 of every file of a folder, beside them: what tells a shipped model from a changed one."""

from __future__ import annotations

from pathlib import Path

from difflora.errors import BadFile
from difflora.files import sha256_file, write_json
from difflora.folders import read_json

NAME = "MANIFEST.json"


def write_manifest(folder: Path) -> dict[str, str]:
    """Writes ``MANIFEST.json`` and gives what it holds: relative path -> sha256."""
    found = _files(folder)
    write_json(folder / NAME, {"files": found})
    return found


def check_manifest(folder: Path) -> None:
    """Compares a folder with its manifest.

    Raises:
        BadFile: if the manifest is missing, or a file is missing, changed or unlisted; it is named.
    """
    listed = read_json(folder / NAME).get("files", {})
    found = _files(folder)
    for name in sorted({*listed, *found}):
        if name not in found:
            raise BadFile(f"{folder / name}: is in the manifest but not there; restore the folder")
        if name not in listed:
            raise BadFile(f"{folder / name}: is not in the manifest; remove it, or restore the folder")
        if found[name] != listed[name]:
            raise BadFile(f"{folder / name}: was changed since the manifest was written; restore the folder")


def _files(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
