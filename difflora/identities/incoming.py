"""People who came in as pictures are added to the people who are there; see ``consent`` for the drop folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from difflora.corpus.people import PeopleFolder, PeopleWriter, Person
from difflora.encoders.pictures import read_picture
from difflora.encoders.subject import SubjectEncoder
from difflora.errors import BadFile, BadImage, BadParameter
from difflora.files import sha256_file
from difflora.identities.build import IdentitySettings, choose_pictures, person_seed
from difflora.identities.consent import RECORD, ConsentRecord, new_people, read_record
from difflora.identities.filter import centre
from difflora.identities.known import known_people
from difflora.identities.look import Seen, look_over
from difflora.identities.photographs.source import Photograph, square
from difflora.identities.repeats import similar_pairs
from difflora.identities.screen import Known
from difflora.identities.screen_settings import ScreenSettings


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
    incoming: Path,
    people: PeopleFolder,
    encoder: SubjectEncoder,
    settings: IdentitySettings,
    screening: ScreenSettings | None = None,
) -> IncomingReport:
    """Adds everyone of a drop folder with a good record and enough faces to the people.

    Photographs that cannot be used are left out, and the person's line says why. Whoever is there under another id is
    refused, unless ``screening.repeated`` is ``keep``; so is whoever was forgotten.

    Args:
        incoming: the drop folder; without one nobody comes in.
        people: there must be some already: new pictures are brought to the size of theirs.
        encoder: the face pack.
        settings: how pictures are chosen; fewer pictures than ``keep`` will do, as long as some are left to learn from.
        screening: what is asked of photographs; None for the defaults.

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
    screening = screening or ScreenSettings()
    there_now = None if screening.repeated == "keep" else known_people(people.folder, encoder.dimension)
    header = {name: value for name, value in people.settings.items() if name != "splits"}
    with PeopleWriter(people.folder, header, settings.splits) as writer:
        for identity, folder in found.items():
            try:
                record = read_record(folder)
                seen = look_over(
                    encoder, [Photograph(folder / one.file, one.caption) for one in record.files], screening
                )
                if not seen.portraits:
                    raise BadImage(next(iter(seen.faults.values())))
                if there_now:
                    _check_new(seen, there_now, screening, folder)
                person, similarity = _person(record, seen, encoder, settings, size)
                more = {"left_out": {Path(name).name: why for name, why in seen.faults.items()}} if seen.faults else {}
                writer.add(person, similarity=round(similarity, 4), consent=_consent(record, folder), **more)
                if there_now:
                    there_now = there_now.and_one(identity, centre(seen.faces))
            except (BadImage, BadParameter, BadFile) as error:
                report.refused[folder.name] = str(error)
                continue
            report.added.append(identity)
        writer.finish()
    return report


def _person(
    record: ConsentRecord, seen: Seen, encoder: SubjectEncoder, settings: IdentitySettings, size: int
) -> tuple[Person, float]:
    squares = [square(read_picture(one.path), one.box, size) for one in seen.portraits]
    images = torch.stack(squares)  # (M, 3, S, S)
    captions = [one.caption or f"a photo of a {record.class_word}" for one in seen.portraits]
    seed = person_seed(record.identity, settings.seed)
    return choose_pictures(
        encoder, record.identity, images, captions, record.class_word, settings, seed, fewer_will_do=True
    )


def _check_new(seen: Seen, known: Known, screening: ScreenSettings, folder: Path) -> None:
    """Looks whether somebody is there under another id.

    Raises:
        BadImage: if so.
    """
    near = similar_pairs(centre(seen.faces)[None], screening.same_person, known.centres) if len(known.ids) else []
    if near:
        _, place, value = max(near, key=lambda pair: pair[2])
        raise BadImage(
            f"{folder}: is the same person as {known.ids[place]}, who is there (cosine {value:.3f}); take the folder "
            "away, raise screen.same_person, or set screen.repeated to keep"
        )


def _consent(record: ConsentRecord, folder: Path) -> dict[str, Any]:
    """What a person's line keeps of the record."""
    return {**record.facts, "record_sha256": sha256_file(folder / RECORD)}
