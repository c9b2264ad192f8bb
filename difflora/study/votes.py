"""Votes in sqlite: a transaction a vote, on the disk before the rater is told so."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from difflora.errors import BadFile
from difflora.study.pages import LEAST, MOST, QUESTIONS

_MARK = Field(ge=LEAST, le=MOST)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS study (digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, begun TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS votes (
    rater INTEGER NOT NULL REFERENCES raters (id),
    item TEXT NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL CHECK ({name} BETWEEN {LEAST} AND {MOST})" for name in QUESTIONS)},
    cast_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (rater, item));
"""
_SECONDS = 15


class Marks(BaseModel):
    """A rater's answers on one picture, each 1 to 5."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fidelity: int = _MARK
    plausibility: int = _MARK
    alignment: int = _MARK
    quality: int = _MARK


@dataclass(frozen=True)
class Vote:
    """What one rater said of one item.

    Attributes:
        rater: a number; the token is nowhere kept.
        item: its id.
        marks: the answers.
    """

    rater: int
    item: str
    marks: Marks


class Votes:
    """The votes of one study.

    Every call opens the file anew, so that any thread and process may call.

    Args:
        path: of the sqlite file.
        study: digest of the pages.
        new: whether to make the file where it is not there.

    Raises:
        BadFile: if it is missing, no sqlite file, or holds votes on other pages.
    """

    def __init__(self, path: Path, study: str, *, new: bool = True) -> None:
        self._path = path
        if not new and not path.is_file():
            raise BadFile(f"{path}: no such file; nobody has voted yet, start `difflora study serve`")
        try:
            with self._open() as file:
                file.execute("PRAGMA journal_mode=WAL")
                file.executescript(_SCHEMA)
                with file:
                    file.execute("INSERT INTO study SELECT ? WHERE NOT EXISTS (SELECT 1 FROM study)", (study,))
                known = file.execute("SELECT digest FROM study").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise BadFile(f"{path}: is no file of votes ({error}); restore it, or move it away") from error
        if known != study:
            raise BadFile(f"{path}: holds votes on other pages; bring those, or give another file")

    def begin(self) -> str:
        """Makes a rater; the token is all that tells who it is, and it is given this once."""
        token = secrets.token_urlsafe(16)
        with self._open() as file, file:
            file.execute("INSERT INTO raters (token) VALUES (?)", (_hash(token),))
        return token

    def rater(self, token: str) -> int | None:
        """A token's rater; None for one that was never given."""
        with self._open() as file:
            row = file.execute("SELECT id FROM raters WHERE token = ?", (_hash(token),)).fetchone()
        return None if row is None else int(row[0])

    def cast(self, rater: int, item: str, marks: Marks) -> None:
        """Stores a vote, or changes it; when this returns it is on the disk."""
        names, places = ", ".join(QUESTIONS), ", ".join("?" * len(QUESTIONS))
        new = ", ".join(f"{name} = excluded.{name}" for name in (*QUESTIONS, "cast_at"))
        with self._open() as file, file:
            file.execute(
                f"INSERT INTO votes (rater, item, {names}) VALUES (?, ?, {places}) "
                f"ON CONFLICT (rater, item) DO UPDATE SET {new}",
                (rater, item, *(getattr(marks, name) for name in QUESTIONS)),
            )

    def of(self, rater: int) -> dict[str, Marks]:
        """A rater's votes: item -> marks."""
        return {vote.item: vote.marks for vote in self._votes("WHERE rater = ?", rater)}

    def all(self) -> list[Vote]:
        """Everyone's votes."""
        return self._votes("")

    def _votes(self, where: str, *values: int) -> list[Vote]:
        query = f"SELECT rater, item, {', '.join(QUESTIONS)} FROM votes {where} ORDER BY rater, item"
        with self._open() as file:
            rows = file.execute(query, values).fetchall()
        return [Vote(row[0], row[1], Marks(**dict(zip(QUESTIONS, row[2:], strict=True)))) for row in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_SECONDS)) as file:
            # FULL: in WAL, NORMAL may lose the last commits when the power fails.
            file.execute("PRAGMA synchronous=FULL")
            file.execute("PRAGMA foreign_keys=ON")
            yield file


def _hash(token: str) -> str:
    """Tokens are kept as hashes: who reads the file cannot vote in another's name."""
    return hashlib.sha256(token.encode()).hexdigest()
