"""A folder of folders: one person each, with any number of photographs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difflora.errors import BadFile
from difflora.identities.consent import RECORD, read_record
from difflora.identities.photographs.records import Records, read_records
from difflora.identities.photographs.source import (
    Depicted,
    Photograph,
    PhotographCollection,
    folder_there,
    visible,
)


class PeopleFolders(PhotographCollection):
    """A folder a person, whose name is the id; every file in it that is not hidden is a photograph of the person.

    Where a folder holds ``consent.json``, as those of ``data/incoming`` do, that is the person's record, and it decides
    id, class word and captions; else ``records`` or ``consent`` tell.

    Args:
        folder: that holds the folders.
        consent: source, licence and date for everyone without another record.
        records: a CSV of people, see ``records``.
        class_word: of whoever has no other.
        size: side to which pictures are brought.

    Raises:
        BadFile: if something beside folders is there, a folder is empty, or a record is missing or malformed.
    """

    def __init__(
        self,
        folder: str,
        consent: Mapping[str, Any] | None = None,
        records: str | None = None,
        class_word: str = "person",
        size: int = 1024,
    ) -> None:
        root = folder_there(folder, "folders, one a person")
        table = read_records(records, consent, class_word)
        people = []
        for place in visible(root, table.path):
            if not place.is_dir():
                raise BadFile(f"{place}: is no folder of a person; put it into one, or take it away")
            people.append(_by_record(place) if (place / RECORD).exists() else _by_table(place, table))
        super().__init__("folders", people, size, root)
        table.check(self._people)


def _by_record(folder: Path) -> Depicted:
    record = read_record(folder)
    files = tuple(Photograph(folder / one.file, one.caption) for one in record.files)
    return Depicted(record.identity, files, record.class_word, record)


def _by_table(folder: Path, table: Records) -> Depicted:
    files = visible(folder)
    if not files:
        raise BadFile(f"{folder}: holds no picture; put some in, or take it away")
    for one in files:
        if one.is_dir():
            raise BadFile(f"{one}: is a folder within a person's; put its pictures into {folder.name}")
    photographs = tuple(map(Photograph, files))
    return Depicted(folder.name, photographs, table.class_word_of(folder.name), table.consent_of(folder.name))
