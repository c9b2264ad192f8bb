"""``weights.lock.json``: the sha256 of every file when it was first seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from difflora.errors import BadFile
from difflora.files import sha256_file, write_json
from difflora.folders import read_json
from difflora.weights.catalogue import SHA256

LOCK = "weights.lock.json"

Trust = Literal["published", "locked", "recorded"]


@dataclass(frozen=True)
class SeenFile:
    """A file whose sha256 was computed.

    Attributes:
        name: as the lock file calls it: its path from the workspace.
        size: bytes.
        sha256: hexadecimal.
        trust: ``published`` where the sha256 is publicly known, ``locked`` where it is that of an earlier check,
            ``recorded`` where it is taken on trust now, for the first time.
    """

    name: str
    size: int
    sha256: str
    trust: Trust


class Lock:
    """What earlier checks saw.

    Trust on first use: a file without a published sha256 is believed once, and any change after that is found.

    Args:
        path: the lock file; nothing is known where it is missing.

    Raises:
        BadFile: if it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, dict[str, object]] = {}
        if path.exists():
            files = read_json(path).get("files")
            if not isinstance(files, dict) or not all(isinstance(each, dict) for each in files.values()):
                raise BadFile(f"{path}: holds no lock of weights; restore it, or remove it to trust the files anew")
            self._known = files

    def see(self, root: Path, path: Path) -> SeenFile:
        """Computes a file's sha256 and compares it with what is known.

        Args:
            root: where names begin.
            path: the file.

        Raises:
            BadFile: if it is not the published or recorded one.
        """
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        found, size = sha256_file(path), path.stat().st_size
        if path.name in SHA256:
            if found != SHA256[path.name]:
                raise BadFile(
                    f"{path}: its sha256 is {found}, but that of the published {path.name} is {SHA256[path.name]}: "
                    "damaged or another file; bring it again"
                )
            return SeenFile(name, size, found, "published")
        known = self._known.get(name)
        if known is None:
            return SeenFile(name, size, found, "recorded")
        if found != known.get("sha256"):
            raise BadFile(
                f"{path}: its sha256 is {found}, but {self.path} recorded {known.get('sha256')} when it was first "
                "seen: damaged or swapped; restore it, or remove its entry there if the change was meant"
            )
        return SeenFile(name, size, found, "locked")

    def missing(self, folder: str, seen: Mapping[str, SeenFile]) -> str | None:
        """The first file of a folder that was there before and is not now."""
        return next((name for name in self._known if name.startswith(f"{folder}/") and name not in seen), None)

    def keep(self, seen: Mapping[str, SeenFile]) -> None:
        """Adds what was seen and writes the lock file, where that changes it."""
        known = {
            **self._known,
            **{name: {"sha256": file.sha256, "bytes": file.size} for name, file in seen.items()},
        }
        if known != self._known:
            write_json(self.path, {"files": dict(sorted(known.items()))})
            self._known = known
