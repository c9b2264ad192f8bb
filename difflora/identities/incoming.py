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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from difflora.corpus.people import PeopleFolder, PeopleWriter, Person
from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.pictures import read_picture
from difflora.errors import BadFile, BadImage, BadParameter
from difflora.files import sha256_file
from difflora.identities.build import IdentitySettings, choose_pictures, person_seed

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


@dataclass(frozen=True)
class IncomingReport:
    """What was taken in.

    Attributes:
        added: ids of the new people.
        there: ids of people who were there already.
        refused: folder's name -> why it was not taken; mend it and run again.
    """

    added: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


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


def take_in(
    incoming: Path, people: PeopleFolder, encoder: InsightFaceEncoder, settings: IdentitySettings
) -> IncomingReport:
    """Adds everyone of a drop folder with a good record and enough faces to the people.

    Args:
        incoming: the drop folder; without one nobody comes in.
        people: there must be some already: new pictures are brought to the size of theirs.
        encoder: the face pack.
        settings: how pictures are chosen; fewer pictures than ``keep`` will do, as long as some are left to learn from.

    Raises:
        BadFile: if the people are damaged.
    """
    found, refused = new_people(incoming, set(people.ids))
    there = []
    if incoming.is_dir():
        known = {folder.name for folder in found.values()} | set(refused)
        there = [one.name for one in sorted(incoming.iterdir()) if one.is_dir() and one.name not in known]
    report = IncomingReport(there=there, refused=refused)
    if not found:
        return report
    size = people.person(people.ids[0]).images.shape[-1]
    header = {name: value for name, value in people.settings.items() if name != "splits"}
    with PeopleWriter(people.folder, header, settings.splits) as writer:
        for identity, folder in found.items():
            try:
                record = read_record(folder)
                person, similarity = _person(record, folder, encoder, settings, size)
                writer.add(person, similarity=round(similarity, 4), consent=_consent(record, folder))
            except (BadImage, BadParameter, BadFile) as error:
                report.refused[folder.name] = str(error)
                continue
            report.added.append(identity)
        writer.finish()
    return report


def _person(
    record: ConsentRecord, folder: Path, encoder: InsightFaceEncoder, settings: IdentitySettings, size: int
) -> tuple[Person, float]:
    files = [one if isinstance(one, IncomingPicture) else IncomingPicture(file=one) for one in record.pictures]
    images = torch.stack([_squared(read_picture(folder / one.file), size) for one in files])  # (M, 3, S, S)
    captions = [one.caption or f"a photo of a {record.class_word}" for one in files]
    seed = person_seed(record.identity, settings.seed)
    return choose_pictures(
        encoder, record.identity, images, captions, record.class_word, settings, seed, fewer_will_do=True
    )


def _squared(picture: Image.Image, size: int) -> Tensor:
    """The middle square of a picture, at the size of the others, (3, S, S) uint8."""
    fitted = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


def _consent(record: ConsentRecord, folder: Path) -> dict[str, Any]:
    """What a person's line keeps of the record."""
    kept = record.model_dump(mode="json", include={"source", "licence", "date"})
    return {**kept, "record_sha256": sha256_file(folder / RECORD)}
