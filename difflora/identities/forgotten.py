"""The list of those who are never to come in again; it lies in the drop folder, and belongs into version control.

    data/incoming/forgotten.json

It outlives every folder of people: a fresh clone, an older version of the data or a changed source bring nobody back.
It holds the sha256 of each id, and the day.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from difflora.corpus.forgotten import hash_of
from difflora.errors import BadFile
from difflora.files import write_json
from difflora.folders import read_json

NAME = "forgotten.json"


class ForgottenList:
    """Who was forgotten.

    Args:
        incoming: the drop folder; without a list nobody was.
    """

    def __init__(self, incoming: Path) -> None:
        self.path = incoming / NAME

    @cached_property
    def days(self) -> dict[str, str]:
        """Hash of an id -> the day, ISO.

        Raises:
            BadFile: if the list is damaged.
        """
        if not self.path.exists():
            return {}
        told = read_json(self.path).get("forgotten")
        if not isinstance(told, dict) or not all(len(key) == 64 and isinstance(day, str) for key, day in told.items()):
            raise BadFile(f"{self.path}: is no list of who was forgotten; restore it")
        return dict(told)

    def __contains__(self, identity: str) -> bool:
        return bool(self.days) and hash_of(identity) in self.days

    def add(self, identities: Iterable[str]) -> None:
        """Lists ids; those that are there keep their day."""
        today = datetime.date.today().isoformat()
        days = {**dict.fromkeys(map(hash_of, identities), today), **self.days}
        if days != self.days:
            write_json(self.path, {"forgotten": dict(sorted(days.items()))})
            self.__dict__["days"] = days
