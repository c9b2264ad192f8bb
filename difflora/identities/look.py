"""Looking over photographs: each must be readable and show one face, large enough; what was seen is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from difflora.encoders.pictures import read_picture
from difflora.encoders.subject import SubjectEncoder, one_face
from difflora.errors import BadImage
from difflora.files import save_safetensors
from difflora.identities.photographs.source import Photograph, Portrait
from difflora.identities.repeats import thumbnail
from difflora.identities.screen_settings import ScreenSettings


@dataclass(frozen=True)
class Seen:
    """What a person's photographs show.

    Attributes:
        portraits: the M usable ones.
        faces: (M, D) float32, unit vectors.
        thumbnails: (M, 768) float32, unit vectors, see ``thumbnail``.
        faults: file -> why it is not usable.
    """

    portraits: tuple[Portrait, ...]
    faces: Tensor
    thumbnails: Tensor
    faults: dict[str, str]


def look_over(encoder: SubjectEncoder, photographs: Sequence[Photograph], settings: ScreenSettings) -> Seen:
    """Reads photographs and finds the one face in each."""
    portraits, crops, small, faults = list[Portrait](), [], [], dict[str, str]()
    for one in photographs:
        try:
            picture = read_picture(one.path)
            face = one_face(encoder.faces(picture), str(one.path), bystanders=settings.bystanders)
            x1, y1, x2, y2 = map(float, face.box)
            if (side := min(x2 - x1, y2 - y1)) < settings.least_face:
                raise BadImage(
                    f"{one.path}: the face is {side:.0f} pixels wide, the least is {settings.least_face}; give a "
                    "larger picture, or one taken from nearer"
                )
        except BadImage as error:
            faults[str(one.path)] = str(error)
            continue
        portraits.append(Portrait(one.path, one.caption, (x1, y1, x2, y2)))
        crops.append(encoder.crop(picture, face))
        small.append(thumbnail(picture))
    faces = torch.from_numpy(encoder.embed_crops(crops)).reshape(len(crops), encoder.dimension)
    return Seen(tuple(portraits), faces, torch.stack(small) if small else torch.zeros(0, 768), faults)


class Looker:
    """Looks over people's photographs, each file once: what was seen is found again after a kill.

    Args:
        folder: for a file a person.
        encoder: the face pack.
        settings: what a face must be like.
    """

    def __init__(self, folder: Path, encoder: SubjectEncoder, settings: ScreenSettings) -> None:
        self._folder, self._encoder, self._settings = folder, encoder, settings

    def __call__(self, identity: str, photographs: Sequence[Photograph]) -> Seen:
        """What a person's photographs show; looked up where the files are as they were."""
        path, key = self._folder / f"{identity}.safetensors", self._key(photographs)
        known = _load(path, key, photographs)
        if known is None:
            known = look_over(self._encoder, photographs, self._settings)
            _save(path, key, known)
        return known

    def _key(self, photographs: Sequence[Photograph]) -> str:
        """Tells encoder, settings and files, by size and time, from any others."""
        stats = [one.path.stat() if one.path.is_file() else None for one in photographs]
        files = [
            (str(one.path), one.caption, stat and (stat.st_size, stat.st_mtime_ns))
            for one, stat in zip(photographs, stats, strict=True)
        ]
        encoder, settings = self._encoder, self._settings
        told = [encoder.digest, *encoder.settings, settings.least_face, settings.bystanders, files]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _save(path: Path, key: str, seen: Seen) -> None:
    places = [one.path for one in seen.portraits]
    words = {"key": key, "paths": list(map(str, places)), "faults": seen.faults}
    boxes = torch.tensor([one.box for one in seen.portraits], dtype=torch.float64).reshape(-1, 4)
    tensors = {"faces": seen.faces, "thumbnails": seen.thumbnails, "boxes": boxes}
    save_safetensors(path, tensors, {"seen": json.dumps(words)})


def _load(path: Path, key: str, photographs: Sequence[Photograph]) -> Seen | None:
    """What was seen; None where nothing was, or it was something else, or the file is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            words = json.loads(file.metadata()["seen"])
            faces, small, boxes = (file.get_tensor(name) for name in ("faces", "thumbnails", "boxes"))
        if words["key"] != key:
            return None
        by_path = {str(one.path): one for one in photographs}
        portraits = tuple(
            Portrait(by_path[name].path, by_path[name].caption, (box[0], box[1], box[2], box[3]))
            for name, box in zip(words["paths"], boxes.tolist(), strict=True)
        )
        return Seen(portraits, faces, small, words["faults"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
