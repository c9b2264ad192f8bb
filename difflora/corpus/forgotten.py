"""Who is never to come back: a list of hashes, and the tombstone that stands where a person's line stood.

A tombstone keeps the place, so that nobody else's row or company in training moves. It holds the sha256 of the id, not
the id: whoever has the list can tell whether an id is on it, and cannot read whom it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Set
from typing import Any

KEY = "forgotten"


def hash_of(identity: str) -> str:
    """What stands for a forgotten id: its sha256, in hexadecimal."""
    return hashlib.sha256(identity.encode()).hexdigest()


def tombstone(hashed: str) -> dict[str, Any]:
    """The line that takes the place of a person's."""
    return {KEY: hashed}


def is_tombstone(line: dict[str, Any]) -> bool:
    """Whether a line stands for somebody who was forgotten."""
    return KEY in line


def buried(line: dict[str, Any], hashes: Collection[str]) -> dict[str, Any]:
    """A line as it is to be: a tombstone where it is of somebody to forget, else itself."""
    if is_tombstone(line) or hash_of(str(line["identity"])) not in hashes:
        return line
    return tombstone(hash_of(str(line["identity"])))


class Roster(Set[str]):
    """Everyone in a list of lines; whoever was forgotten counts as being there, so that nobody takes them in again.

    Args:
        lines: with ``identity``, or tombstones.
    """

    def __init__(self, lines: Iterable[dict[str, Any]]) -> None:
        self._ids, self._hashes = set[str](), set[str]()
        for line in lines:
            if is_tombstone(line):
                self._hashes.add(str(line[KEY]))
            else:
                self._ids.add(str(line["identity"]))

    def __contains__(self, identity: object) -> bool:
        return identity in self._ids or self.forgot(str(identity))

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def forgot(self, identity: str) -> bool:
        """Whether somebody of that id was forgotten here."""
        return bool(self._hashes) and hash_of(identity) in self._hashes

    def add(self, identity: str) -> None:
        """Takes somebody in."""
        self._ids.add(identity)
