"""JSON lines that are only ever appended to, each with its own checksum: a kill or a flipped byte never goes unseen.

A line holds ``check``, the start of the sha256 of the rest of it. A finished build seals its file: ``NAME.seal.json``
says how many lines there are and their sha256, so that lines cut off at the end are missed as well. Lines after the
sealed ones are those of a build that is still to be finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from difflora.errors import BadFile, DiffLoRAError
from difflora.files import write_atomic, write_json
from difflora.folders import read_json

Record = dict[str, Any]


def encode_line(record: Record) -> bytes:
    """One line with its checksum, and the newline that ends it; NaN is refused."""
    check = hashlib.sha256(json.dumps(record, allow_nan=False).encode()).hexdigest()[:16]
    return f"{json.dumps(record | {'check': check}, allow_nan=False)}\n".encode()


def _seal_path(path: Path) -> Path:
    return path.with_suffix(".seal.json")


def read_lines(path: Path) -> list[Record]:
    """Reads and checks every line; a file that is not there has none.

    Raises:
        BadFile: for a changed, cut or missing line; the file and the line's number (from 1) are named.
    """
    lines, torn = _split(path.read_bytes() if path.exists() else b"")
    if torn:
        raise BadFile(
            f"{path}: line {len(lines) + 1} is cut short; run the build again to mend it, or restore the file"
        )
    return _checked(path, lines)


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole lines, without their ends, and what comes after them."""
    *lines, torn = data.split(b"\n")
    return lines, torn


def _checked(path: Path, lines: list[bytes]) -> list[Record]:
    records = [_decode(line, path, number) for number, line in enumerate(lines, start=1)]
    _check_seal(path, lines)
    return records


def _decode(line: bytes, path: Path, number: int) -> Record:
    try:
        record = json.loads(line)
        del record["check"]
        whole = encode_line(record) == line + b"\n"
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadFile(f"{path}: line {number} is not readable; restore the file") from error
    if not whole:
        raise BadFile(f"{path}: line {number} was changed (its checksum differs); restore the file")
    return dict(record)


def _check_seal(path: Path, lines: list[bytes]) -> None:
    if not _seal_path(path).exists():
        return
    seal = read_json(_seal_path(path))
    count, digest = seal.get("lines"), seal.get("sha256")
    if not isinstance(count, int) or not isinstance(digest, str):
        raise BadFile(f"{_seal_path(path)}: does not say how many lines {path.name} has; restore it")
    if len(lines) < count:
        raise BadFile(f"{path}: line {len(lines) + 1} is missing, of {count} that were sealed; restore the file")
    if _digest(lines[:count]) != digest:
        raise BadFile(
            f"{path}: its first {count} lines are not those that {_seal_path(path).name} sealed; restore both"
        )


def _digest(lines: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()


class LineWriter:
    """Appends lines to a file, alone: a second writer of the same file is an error.

    On opening, whole lines are checked and kept; what a kill left of a last one is taken away.

    Args:
        path: the file; made if missing.

    Attributes:
        records: all lines, the appended ones too.

    Raises:
        DiffLoRAError: if another process writes the file.
        BadFile: if a whole line is damaged.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._file.fileno()).st_ino != path.stat().st_ino:
                raise OSError("it was replaced meanwhile")
        except OSError as error:
            self._file.close()
            raise DiffLoRAError(f"{path}: another build writes this file; wait for it, or stop it") from error
        try:
            lines, torn = _split(path.read_bytes())
            self.records = _checked(path, lines)
            os.ftruncate(self._file.fileno(), os.path.getsize(path) - len(torn))
        except BaseException:
            self._file.close()
            raise

    def append(self, records: Iterable[Record]) -> None:
        """Writes lines and waits until they are on the disk."""
        records = list(records)
        self._file.write(b"".join(map(encode_line, records)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records += records

    def rewrite(self, change: Callable[[Record], Record]) -> None:
        """Replaces lines by others, and seals the file; the writer is of no use afterwards.

        A kill leaves the old lines or the new ones, and at worst no seal; calling it again mends that.

        Args:
            change: a line as it is to be.
        """
        new = [change(record) for record in self.records]
        if new != self.records:
            _seal_path(self._path).unlink(missing_ok=True)
            self.records = new
            write_atomic(self._path, b"".join(map(encode_line, new)))
        if not _seal_path(self._path).exists():
            self.seal()

    def seal(self) -> None:
        """Says that the file is whole as it is now."""
        lines = [encode_line(record).rstrip(b"\n") for record in self.records]
        write_json(_seal_path(self._path), {"lines": len(lines), "sha256": _digest(lines)})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
