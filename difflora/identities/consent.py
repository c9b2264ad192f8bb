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
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from difflora.errors import BadFile

RECORD = "consent.json"
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class IncomingPicture(BaseModel):
    """A picture and what it shows beside the person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(pattern=r"^[^/\\]+$", description="name of a file of the folder")
    caption: str | None = Field(None, description="a prompt that leaves the identity open")


class ConsentRecord(BaseModel):
    """What must be known of pictures before they are used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    source: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    date: datetime.date
    pictures: tuple[IncomingPicture | str, ...] = Field(min_length=1)
    class_word: str = Field("person", min_length=1)


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
        raise BadFile(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: not readable as JSON ({error})") from error
    if record.date > datetime.date.today():
        raise BadFile(f"{path}: date is {record.date}, which is still to come")
    listed = [one.file if isinstance(one, IncomingPicture) else one for one in record.pictures]
    there = {one.name for one in folder.iterdir() if one.suffix.lower() in _SUFFIXES}
    for name in listed:
        if name not in there:
            raise BadFile(f"{path}: lists {name}, which is not in the folder as a JPEG, PNG or WebP")
    if more := sorted(there.difference(listed)):
        raise BadFile(f"{folder / more[0]}: is not in the consent record; list it, or take it away")
    return record


def new_people(incoming: Path, there: set[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Whoever of a drop folder is not there yet: identity -> folder, and folder's name -> why it is refused."""
    found, refused = dict[str, Path](), dict[str, str]()
    folders = sorted(one for one in incoming.iterdir() if one.is_dir()) if incoming.is_dir() else []
    for folder in folders:
        try:
            identity = read_record(folder).identity
        except BadFile as error:
            refused[folder.name] = str(error)
            continue
        if identity in found:
            refused[folder.name] = f"{folder}: is of {identity}, as {found[identity]} is; put them into one folder"
        elif identity not in there:
            found[identity] = folder
    return found, refused
