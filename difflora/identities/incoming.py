"""People who came in as pictures are added to the people who are there; see ``consent`` for the drop folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from difflora.corpus.people import PeopleFolder, PeopleWriter, Person
from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.pictures import read_picture
from difflora.errors import BadFile, BadImage, BadParameter
from difflora.files import sha256_file
from difflora.identities.build import IdentitySettings, choose_pictures, person_seed
from difflora.identities.consent import RECORD, ConsentRecord, IncomingPicture, new_people, read_record


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
