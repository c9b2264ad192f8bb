"""FFHQ as its authors lay it out: one picture, one person.

images1024x1024/00000/00000.png      aligned faces, a folder a thousand
in-the-wild-images/00000/00000.png   the photographs they were cut from
ffhq-dataset-v2.json                 source and licence of each photograph
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difflora.errors import BadFile, BadParameter
from difflora.folders import read_json
from difflora.identities.photographs.records import read_records
from difflora.identities.photographs.source import (
    Depicted,
    Photograph,
    PhotographCollection,
    folder_there,
    visible,
)

_VARIANTS = ("images1024x1024", "in-the-wild-images", "thumbnails128x128")
_NUMBER = re.compile(r"[0-9]{5}")


class FFHQ(PhotographCollection):
    """Flickr-Faces-HQ.

    Args:
        folder: that holds the variant's folder.
        variant: images1024x1024, in-the-wild-images or thumbnails128x128.
        metadata: name of the JSON file with each photograph's source and licence, beside the variant's folder; None to
            leave it unread, and to give ``consent`` or ``records``.
        consent: source, licence and date for everyone of whom nothing else is known.
        records: a CSV of people, see ``records``; ids are ``ffhq-00000``.
        class_word: FFHQ does not tell women from men: a word for everyone whom ``records`` has none for.
        size: side to which pictures are brought.

    Raises:
        BadFile: if a file of the layout is missing or malformed; it is named.
        BadParameter: if there is no such variant.
    """

    def __init__(
        self,
        folder: str,
        variant: str = "images1024x1024",
        metadata: str | None = None,
        consent: Mapping[str, Any] | None = None,
        records: str | None = None,
        class_word: str = "person",
        size: int = 1024,
    ) -> None:
        if variant not in _VARIANTS:
            raise BadParameter(f"variant is {variant!r}: give {', '.join(_VARIANTS)}")
        root = folder_there(folder, "FFHQ")
        known = _metadata(root / metadata) if metadata else {}
        table = read_records(records, consent, class_word)
        people = []
        for number, path in _pictures(root / variant):
            identity = f"ffhq-{number}"
            record = table.consent_of(identity, known.get(number))
            people.append(Depicted(identity, (Photograph(path),), table.class_word_of(identity), record))
        super().__init__(f"ffhq {variant}", people, size, root)
        table.check(self._people)


def _pictures(folder: Path) -> list[tuple[str, Path]]:
    """Number and file of each picture, in rising order."""
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder; FFHQ has its pictures there")
    found = []
    for thousand in visible(folder):
        if not thousand.is_dir() or not _NUMBER.fullmatch(thousand.name) or int(thousand.name) % 1000:
            raise BadFile(f"{thousand}: is no folder of FFHQ, which are 00000, 01000 and so on; take it away")
        for path in visible(thousand):
            fits = _NUMBER.fullmatch(path.stem) and path.stem[:2] == thousand.name[:2]
            if path.suffix != ".png" or not fits:
                like = f"{thousand.name}/{thousand.name}.png"
                raise BadFile(f"{path}: is no picture of FFHQ, which are {like} and so on; take it away")
            found.append((path.stem, path))
    return found


def _metadata(path: Path) -> dict[str, dict[str, str]]:
    """Five-digit number -> source, licence and date, as far as they are told."""
    if not path.is_file():
        raise BadFile(f"{path}: no such file, though option metadata names it")
    found = {}
    for number, entry in read_json(path).items():
        try:
            words = entry["metadata"]
            told = {"source": words["photo_url"], "licence": words["license"], "date": words["date_crawled"]}
            found[f"{int(number):05d}"] = {key: str(word) for key, word in told.items() if word}
        except (KeyError, TypeError, ValueError) as error:
            said = json.dumps(entry)[:80]
            raise BadFile(
                f"{path}: entry {number!r} is {said}, without FFHQ's metadata of photo_url, license and date_crawled; "
                "fetch the file again, or give consent instead"
            ) from error
    return found
