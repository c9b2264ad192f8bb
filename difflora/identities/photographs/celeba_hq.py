"""CelebA-HQ with CelebA's identities, so that one person is one person, however many pictures there are.

CelebA-HQ-img/0.jpg                  the pictures, as CelebAMask-HQ has them
CelebA-HQ-to-CelebA-mapping.txt      idx, orig_idx, orig_file: which picture of CelebA each is
identity_CelebA.txt                  file and person, a line a picture
list_attr_celeba.txt                 forty attributes a picture; Male is among them
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
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

_MAPPING, _IDENTITIES, _ATTRIBUTES = "CelebA-HQ-to-CelebA-mapping.txt", "identity_CelebA.txt", "list_attr_celeba.txt"
_SUFFIXES = (".jpg", ".png")


class CelebAHQ(PhotographCollection):
    """CelebA-HQ, by person.

    Args:
        folder: that holds pictures and lists.
        images: name of the folder of pictures.
        attributes: whether ``Male`` of CelebA's attributes gives man and woman, by the most of a person's pictures;
            without it everyone is called by ``class_word``.
        consent: source, licence and date for everyone of whom ``records`` tells nothing else.
        records: a CSV of people, see ``records``; ids are ``celeba-2880``, by CelebA's number of the person.
        class_word: of whoever is called neither man nor woman.
        size: side to which pictures are brought.

    Raises:
        BadFile: if a file of the layout is missing or malformed; file and line are named.
    """

    def __init__(
        self,
        folder: str,
        images: str = "CelebA-HQ-img",
        attributes: bool = True,
        consent: Mapping[str, Any] | None = None,
        records: str | None = None,
        class_word: str = "person",
        size: int = 1024,
    ) -> None:
        root = folder_there(folder, "CelebA-HQ")
        pictures = _pictures(root / images)
        originals = _mapping(root / _MAPPING)
        persons = _identities(root / _IDENTITIES)
        male = _male(root / _ATTRIBUTES) if attributes else {}
        table = read_records(records, consent, class_word)
        for index, path in pictures.items():
            if index not in originals:
                raise BadFile(f"{path}: is not in {_MAPPING}, so nobody can tell whom it shows; take it away")
        by_person = defaultdict[int, list[int]](list)
        for index, (line, original) in originals.items():
            where = f"{root / _MAPPING}: line {line}"
            if index not in pictures:
                raise BadFile(f"{where} is of picture {index}, which is not in {root / images}; restore the picture")
            if original not in persons:
                raise BadFile(f"{where} names {original}, of whom {_IDENTITIES} tells no person; restore that file")
            if attributes and original not in male:
                raise BadFile(f"{where} names {original}, which {_ATTRIBUTES} lacks; restore that file")
            by_person[persons[original]].append(index)
        people = []
        for person, indices in sorted(by_person.items()):
            identity = f"celeba-{person}"
            votes = Counter(male[originals[index][1]] for index in indices if attributes)
            known = None if votes[True] == votes[False] else "man" if votes[True] > votes[False] else "woman"
            files = tuple(Photograph(pictures[index]) for index in sorted(indices))
            people.append(Depicted(identity, files, table.class_word_of(identity, known), table.consent_of(identity)))
        super().__init__("celeba-hq", people, size, root)
        table.check(self._people)


def _pictures(folder: Path) -> dict[int, Path]:
    """Index -> file, whether or not names are filled up with zeros."""
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder; give the name of CelebA-HQ's folder of pictures in option images")
    found = dict[int, Path]()
    for path in visible(folder):
        if path.suffix not in _SUFFIXES or not path.stem.isdecimal():
            raise BadFile(f"{path}: is no picture of CelebA-HQ, which are 0.jpg, 1.jpg and so on; take it away")
        if int(path.stem) in found:
            raise BadFile(f"{path}: is picture {int(path.stem)}, as {found[int(path.stem)].name} is; take one away")
        found[int(path.stem)] = path
    return found


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Number, from 1, and words of each line that has any."""
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such file; it comes with CelebA or CelebAMask-HQ, put it there") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path}: not readable as text ({error}); fetch it again") from error
    return [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _mapping(path: Path) -> dict[int, tuple[int, str]]:
    """CelebA-HQ's index -> the line's number and CelebA's file."""
    head, *lines = _lines(path) or [(1, [])]
    if head[1] != ["idx", "orig_idx", "orig_file"]:
        raise BadFile(f"{path}: line {head[0]} is {' '.join(head[1])!r}, not idx orig_idx orig_file; restore the file")
    found = dict[int, tuple[int, str]]()
    for number, words in lines:
        if len(words) != 3 or not words[0].isdecimal() or not words[1].isdecimal():
            raise BadFile(f"{path}: line {number} is {' '.join(words)!r}, not two indices and a file; restore the file")
        if int(words[0]) in found:
            raise BadFile(f"{path}: line {number} is of picture {int(words[0])}, as one before it is; restore the file")
        found[int(words[0])] = (number, words[2])
    return found


def _identities(path: Path) -> dict[str, int]:
    """CelebA's file -> number of the person."""
    found = dict[str, int]()
    for number, words in _lines(path):
        if len(words) != 2 or not words[1].isdecimal():
            raise BadFile(f"{path}: line {number} is {' '.join(words)!r}, not a file and a person; restore the file")
        if words[0] in found:
            raise BadFile(f"{path}: line {number} is of {words[0]}, as one before it is; restore the file")
        found[words[0]] = int(words[1])
    return found


def _male(path: Path) -> dict[str, bool]:
    """CelebA's file -> whether the attribute says male."""
    lines = _lines(path)
    if len(lines) < 2 or not "".join(lines[0][1]).isdecimal() or "Male" not in lines[1][1]:
        raise BadFile(
            f"{path}: lines 1 and 2 are not the number of pictures and the names of attributes, Male among them; "
            "restore the file, or set option attributes to false"
        )
    names, found = lines[1][1], dict[str, bool]()
    place = names.index("Male") + 1
    for number, words in lines[2:]:
        if len(words) != len(names) + 1 or words[place] not in ("1", "-1"):
            raise BadFile(f"{path}: line {number} is not a file and {len(names)} times 1 or -1; restore the file")
        found[words[0]] = words[place] == "1"
    if len(found) != int("".join(lines[0][1])):
        raise BadFile(f"{path}: line 1 says {lines[0][1][0]} pictures, but {len(found)} follow; restore the file")
    return found
