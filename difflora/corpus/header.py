"""The file that says how a growing folder is made, and refuses to let it grow in another way."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from difflora.errors import BadFile, BadParameter
from difflora.files import write_json
from difflora.folders import read_json

_MISSING = "nothing"


def settings_digest(value: Any) -> str:
    """The sha256, in hexadecimal, of plain values as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def begin(path: Path, kind: str, settings: dict[str, Any]) -> None:
    """Writes a header, or compares with the one that is there.

    Args:
        path: the header's file.
        kind: what the folder holds.
        settings: plain values that decide what is made.

    Raises:
        BadParameter: if the folder was begun with other settings; the first key that differs is named.
        BadFile: if the header that is there is damaged or of another kind.
    """
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        if path.parent.is_dir() and any(p for p in path.parent.iterdir() if not p.name.startswith(".")):
            raise BadParameter(f"{path.parent} is not empty and holds no {path.name}: give another folder")
        write_json(path, {"kind": kind, "sha256": settings_digest([kind, settings]), "settings": settings})
        return
    differing = first_difference(read_header(path, kind), settings)
    if differing:
        key, old, new = differing
        raise BadParameter(
            f"{path.parent} was begun with {key} = {json.dumps(old)}, not {json.dumps(new)}: "
            "keep the setting, or give another folder"
        )


def read_header(path: Path, kind: str) -> dict[str, Any]:
    """The settings of a header.

    Raises:
        BadFile: if it is missing, damaged or of another kind.
    """
    header = read_json(path)
    settings = header.get("settings")
    if header.get("kind") != kind or not isinstance(settings, dict):
        raise BadFile(f"{path}: is no header of a {kind}; give the folder of one, or restore the file")
    if header.get("sha256") != settings_digest([kind, settings]):
        raise BadFile(f"{path}: was changed (its sha256 differs); restore the file")
    return settings


def first_difference(one: Any, two: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first key at which two trees of plain values differ, with both values there; None where they are equal."""
    if isinstance(one, dict) and isinstance(two, dict):
        for name in dict.fromkeys([*one, *two]):
            inner = f"{key}.{name}" if key else str(name)
            found = first_difference(one.get(name, _MISSING), two.get(name, _MISSING), inner)
            if found:
                return found
        return None
    return None if one == two else (key, one, two)


def sweep(*folders: Path) -> None:
    """Takes away half-written temporary files of ``write_atomic`` that a kill left; only for who holds the folder."""
    for folder in folders:
        for path in folder.glob(".*.*"):
            if path.is_file():
                path.unlink()
