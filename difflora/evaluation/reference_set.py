"""The pictures that FID and KID compare with: a folder's, or the training people's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from difflora.corpus.people import PeopleFolder
from difflora.encoders.images import Picture, as_arrays
from difflora.encoders.pictures import read_picture
from difflora.errors import BadParameter

TRAINING_PEOPLE = "real pictures of the training people"
"""The name of the reference set that is no folder."""

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def reference_pictures(folder: Path | None, people: PeopleFolder, count: int) -> Iterator[Picture]:
    """Pictures of a reference set, one after another, so that thousands of large ones are never held at once.

    Args:
        folder: with pictures in it or below; None for the training people's, those that no LoRA learnt from.
        people: everyone's pictures.
        count: how many at most, spread evenly over folder or people.

    Yields:
        PIL images, or (H, W, 3) uint8.

    Raises:
        BadParameter: if there are fewer than two.
        BadImage: if a picture cannot be read; it is named.
    """
    return _of_people(people, count) if folder is None else _of_folder(folder, count)


def _of_folder(folder: Path, count: int) -> Iterator[Picture]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    if len(paths) < 2:
        raise BadParameter(
            f"evaluate.metrics.reference: {folder} holds {len(paths)} pictures ({', '.join(_ENDINGS)}); give a folder "
            "with more, or null for the training people's"
        )
    return (read_picture(paths[place]) for place in spread_places(len(paths), count))


def _of_people(people: PeopleFolder, count: int) -> Iterator[Picture]:
    places = [
        (identity, number)
        for identity in people.split("train")
        for number in range(int(people.line(identity)["references"]))
    ]
    if len(places) < 2:
        raise BadParameter(
            f"{people.folder}: the training people have {len(places)} pictures to compare with; name a folder of "
            "pictures in evaluate.metrics.reference, or set evaluate.metrics.fid to null"
        )
    chosen: dict[str, list[int]] = {}
    for place in spread_places(len(places), count):
        identity, number = places[place]
        chosen.setdefault(identity, []).append(number)
    return (
        picture
        for identity, numbers in chosen.items()
        for picture in as_arrays(people.person(identity).references[numbers])
    )


def spread_places(total: int, count: int) -> list[int]:
    """At most ``count`` places of ``total``, evenly spread, in order."""
    kept = min(total, count)
    return [place * total // kept for place in range(kept)]
