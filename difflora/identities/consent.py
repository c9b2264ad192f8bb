"""People who came in as pictures: a folder each, with a consent record, or they are not touched.

    data/incoming/jane/consent.json
    data/incoming/jane/*.jpg

The record is a JSON object: ``identity`` (an id, never a name that others must not see), ``source`` (where the pictures
are from), ``licence`` (what the person agreed to, or the pictures' licence), ``date`` (ISO, of the consent) and
``pictures`` (file names, or objects of ``file`` and ``caption``); ``class_word`` (man, woman) is for prompts.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Container
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from difflora.errors import BadFile
from difflora.identities.forgotten import ForgottenList

RECORD = "consent.json"
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class IncomingPicture(BaseModel):
    """A picture and what it shows beside the person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(pattern=r"^[^/\\]+$", description="name of a file of the folder")
    caption: str | None = Field(None, description="a prompt that leaves the identity open")


class Consent(BaseModel):
    """What must be known of a person before any picture is used; it stays with the person and with the LoRA."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1, description="where the pictures are from")
    licence: str = Field(min_length=1, description="what the person agreed to, or the pictures' licence")
    date: datetime.date = Field(description="of the consent, or of the licence")

    @field_validator("date")
    @classmethod
    def _has_come(cls, date: datetime.date) -> datetime.date:
        if date > datetime.date.today():
            raise ValueError(f"is {date}, which is still to come")
        return date

    @property
    def facts(self) -> dict[str, str]:
        """Source, licence and date as plain values."""
        return {"source": self.source, "licence": self.licence, "date": self.date.isoformat()}


class ConsentRecord(Consent):
    """The record of one person's folder of pictures."""

    identity: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    pictures: tuple[IncomingPicture | str, ...] = Field(min_length=1)
    class_word: str = Field("person", min_length=1)

    @property
    def files(self) -> list[IncomingPicture]:
        """The pictures, with captions where they have any."""
        return [
            one if isinstance(one, IncomingPicture) else IncomingPicture.model_construct(file=one, caption=None)
            for one in self.pictures
        ]


def read_record(folder: Path) -> ConsentRecord:
    """A folder's consent record.

    Raises:
        BadFile: if it is missing, unreadable, lacks a key, is of a later day, or lists other pictures than are there.
    """
    path = folder / RECORD
    try:
        record = ConsentRecord.model_validate(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such file; without a consent record no picture is used") from error
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        raise BadFile(f"{path}: {'.'.join(map(str, first['loc']))}: {said}") from error
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: not readable as JSON ({error})") from error
    listed = [one.file for one in record.files]
    there = {one.name for one in folder.iterdir() if one.suffix.lower() in _SUFFIXES}
    for name in listed:
        if name not in there:
            raise BadFile(f"{path}: lists {name}, which is not in the folder as a JPEG, PNG or WebP")
    if more := sorted(there.difference(listed)):
        raise BadFile(f"{folder / more[0]}: is not in the consent record; list it, or take it away")
    return record


def new_people(incoming: Path, there: Container[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Whoever of a drop folder is not there yet: identity -> folder, and folder's name -> why it is refused.

    Raises:
        BadFile: if the list of who was forgotten is damaged.
    """
    found, refused, forgotten = dict[str, Path](), dict[str, str](), ForgottenList(incoming)
    folders = sorted(one for one in incoming.iterdir() if one.is_dir()) if incoming.is_dir() else []
    for folder in folders:
        try:
            identity = read_record(folder).identity
        except BadFile as error:
            refused[folder.name] = str(error)
            continue
        if identity in forgotten:
            refused[folder.name] = f"{folder}: {identity} was forgotten and does not come back; take the folder away"
        elif identity in found:
            refused[folder.name] = f"{folder}: is of {identity}, as {found[identity]} is; put them into one folder"
        elif identity not in there:
            found[identity] = folder
    return found, refused
