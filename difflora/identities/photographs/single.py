"""Single images: one file, one person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from difflora.errors import BadFile
from difflora.identities.photographs.records import read_records
from difflora.identities.photographs.source import (
    Depicted,
    Photograph,
    PhotographCollection,
    folder_there,
    visible,
)


class SingleImages(PhotographCollection):
    """A folder of photographs of one person each; the id is the file's name without its ending.

    Args:
        folder: of the files; every one that is not hidden, and not the table, is a photograph.
        consent: source, licence and date for everyone of whom ``records`` tells nothing else.
        records: a CSV of people, see ``records``.
        class_word: of whoever ``records`` has none for.
        size: side to which pictures are brought.

    Raises:
        BadFile: if a folder is among the files, or a record is missing or malformed.
    """

    def __init__(
        self,
        folder: str,
        consent: Mapping[str, Any] | None = None,
        records: str | None = None,
        class_word: str = "person",
        size: int = 1024,
    ) -> None:
        root = folder_there(folder, "photographs, one a person")
        table = read_records(records, consent, class_word)
        people = []
        for path in visible(root, table.path):
            if path.is_dir():
                raise BadFile(f"{path}: is a folder; for a folder a person, take the source PeopleFolders")
            word, record = table.class_word_of(path.stem), table.consent_of(path.stem)
            people.append(Depicted(path.stem, (Photograph(path),), word, record))
        super().__init__("single images", people, size, root)
        table.check(self._people)
