"""What raters see: pictures under random names, each with its prompt and the reference, and not whose they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from difflora.errors import BadFile
from difflora.files import sha256_file
from difflora.folders import read_json
from difflora.validation import validated

PAGES, KEY, VOTES, SCORES = "pages", "key.json", "votes.sqlite", "scores.json"
"""In a study's folder: what is served, whose picture is which, what raters said, what came of it."""

ITEMS = "items.json"
LEAST, MOST = 1, 5


@dataclass(frozen=True)
class Question:
    """One of the four questions of Table 2.

    Attributes:
        name: as raters read it.
        asks: the question.
        low: what the least mark means.
        high: what the highest mark means.
    """

    name: str
    asks: str
    low: str
    high: str


QUESTIONS = {
    "fidelity": Question("Fidelity", "Is it the person of the reference?", "someone else", "the same person, no doubt"),
    "plausibility": Question(
        "Plausibility", "Do face, body and scene fit together?", "impossible", "nothing is out of place"
    ),
    "alignment": Question("Alignment", "Does it show what the sentence says?", "nothing of it", "all of it"),
    "quality": Question("Quality", "How good is the picture, as a picture?", "very poor", "excellent"),
}

_Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
_File = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}\.png$")]


class Item(BaseModel):
    """One picture to rate: one page.

    Attributes:
        id: random.
        picture: a file of ``pages/pictures``.
        reference: another, of the same person.
        prompt: the sentence that was drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: _Id
    picture: _File
    reference: _File
    prompt: str = Field(min_length=1)


class ItemsFile(BaseModel):
    """``pages/items.json``.

    Attributes:
        per_rater: pages that one rater is asked for; None for all.
        items: in an order that was drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_rater: int | None = Field(None, ge=1)
    items: tuple[Item, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Pages:
    """A study as raters see it.

    Attributes:
        folder: that ``items.json`` and ``pictures`` lie in.
        per_rater: pages that one rater is asked for; None for all.
        items: all of them.
        digest: of ``items.json``; votes and key belong to it.
    """

    folder: Path
    per_rater: int | None
    items: tuple[Item, ...]
    digest: str

    @classmethod
    def open(cls, study: Path) -> Pages:
        """Reads the pages of a study's folder.

        Raises:
            BadFile: if something is missing, or an id is given twice.
            BadParameter: for a key or value that is not allowed; it is named.
        """
        folder = study / PAGES
        if not folder.is_dir():
            raise BadFile(f"{folder}: no such folder; make the study with `difflora study build`")
        place = folder / ITEMS
        file = validated(ItemsFile, read_json(place), str(place))
        if len({item.id for item in file.items}) < len(file.items):
            raise BadFile(f"{place}: two items have the same id; build the study again")
        for name in sorted({name for item in file.items for name in (item.picture, item.reference)}):
            if not (folder / "pictures" / name).is_file():
                raise BadFile(f"{folder / 'pictures' / name}: no such file, though {place} names it; restore it")
        return cls(folder, file.per_rater, file.items, sha256_file(place))

    def of_rater(self, token: str) -> list[Item]:
        """A rater's pages in the rater's own order, always the same.

        Each rater has another order, so that neither the first pages nor tiredness favour a picture; and where a rater
        is asked for a part, the parts together cover all pages evenly.
        """

        def place(item: Item) -> bytes:
            return hashlib.sha256(f"{token} {item.id}".encode()).digest()

        return sorted(self.items, key=place)[: self.per_rater]
