"""What is known of each person of a collection beside the pictures: class word and consent, from a table or for all."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from difflora.errors import BadFile, BadParameter
from difflora.identities.consent import Consent

_CONSENT = ("source", "licence", "date")
_COLUMNS = ("identity", "class_word", *_CONSENT)


@dataclass(frozen=True)
class Records:
    """A table's rows, and what holds for everyone whom it does not tell more of.

    Attributes:
        path: the table, for errors; None without one.
        rows: identity -> column -> word; empty words are left out.
        consent: keys of a record for everyone.
        class_word: for everyone.
    """

    path: Path | None
    rows: Mapping[str, Mapping[str, str]]
    consent: Mapping[str, Any]
    class_word: str

    def class_word_of(self, identity: str, known: str | None = None) -> str:
        """The table's word, else what the collection knows, else the word for everyone."""
        return self.rows.get(identity, {}).get("class_word") or known or self.class_word

    def consent_of(self, identity: str, known: Mapping[str, Any] | None = None) -> Consent:
        """A person's record: each key from the table, else from the collection, else as it is for everyone.

        Raises:
            BadFile: if a key is missing or not allowed; the person and the key are named.
        """
        row = {key: word for key, word in self.rows.get(identity, {}).items() if key in _CONSENT}
        try:
            return Consent.model_validate({**self.consent, **(known or {}), **row})
        except ValidationError as error:
            first = error.errors()[0]
            key, said = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
            where = f"{self.path}: " if self.path else ""
            raise BadFile(
                f"{where}{identity} has no good consent record: {key}: {said}; give source, licence and date for "
                "everyone (option consent) or for each (option records, a CSV with those columns)"
            ) from error

    def check(self, identities: Collection[str]) -> None:
        """Looks for rows of nobody, which are slips of the pen.

        Raises:
            BadFile: for the first one; table and person are named.
        """
        for identity in self.rows:
            if identity not in identities:
                raise BadFile(f"{self.path}: has a line of {identity!r}, who is not in the collection")


def read_records(path: str | Path | None, consent: Mapping[str, Any] | None, class_word: str) -> Records:
    """Reads a table of people.

    Args:
        path: a CSV with a header: ``identity`` and any of ``class_word``, ``source``, ``licence`` and ``date``.
        consent: keys of the record of whoever the table has no words for.
        class_word: of whoever the table has no word for.

    Raises:
        BadFile: if the table is missing or malformed; file and line are named.
        BadParameter: if ``consent`` has other keys or ``class_word`` is empty.
    """
    if not class_word:
        raise BadParameter("class_word is empty: give one, such as person")
    if unknown := [key for key in consent or {} if key not in _CONSENT]:
        raise BadParameter(f"consent.{unknown[0]} is not known: give {', '.join(_CONSENT)}")
    rows = {} if path is None else _read_table(Path(path))
    return Records(None if path is None else Path(path), rows, dict(consent or {}), class_word)


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    rows = dict[str, dict[str, str]]()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head, *lines = [(number, row) for number, row in enumerate(csv.reader(file, strict=True), 1) if row] or [
                (1, [])
            ]
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such file, though option records names it") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path}: not readable as CSV ({error})") from error
    names = head[1]
    if "identity" not in names or set(names) - set(_COLUMNS) or len(set(names)) != len(names):
        raise BadFile(f"{path}: line 1 is {','.join(names)!r}; give identity and any of {', '.join(_COLUMNS[1:])}")
    for number, words in lines:
        row = dict(zip(names, map(str.strip, words), strict=False))
        if len(words) != len(names) or not row["identity"]:
            raise BadFile(f"{path}: line {number} does not have {len(names)} columns and an identity")
        if row["identity"] in rows:
            raise BadFile(f"{path}: line {number} is of {row['identity']!r}, as one before it is")
        rows[row["identity"]] = {key: word for key, word in row.items() if word}
    return rows
