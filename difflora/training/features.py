"""What the transformer is conditioned on: E_face and E_img of every picture of a person, computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.people import PeopleFolder, Person
from difflora.encoders.images import CLIPImageEncoder
from difflora.encoders.subject import SubjectEncoder
from difflora.errors import BadFile, BadImage, BadParameter
from difflora.files import load_safetensors, save_safetensors

Pictures = Literal["references", "images", "all"]
"""Pictures that no LoRA learns from, those that one learns from (after crop and flip), or both."""

_FACE = "face"
_TENSORS = ("face", "image", "counts")


@dataclass(frozen=True, eq=False)
class ConditionFeatures:
    """Features of N people's pictures, person after person.

    Attributes:
        names: the people.
        face: (M, Df) float32 unit vectors, of all pictures with a face.
        image: (M, Di) float32 unit vectors.
        counts: (N,) int64, pictures of each person, at least 1.
        face_encoder: digest of the encoder, where known.
        image_encoder: digest of the encoder, where known.
    """

    names: tuple[str, ...]
    face: Tensor
    image: Tensor
    counts: Tensor
    face_encoder: str | None = None
    image_encoder: str | None = None

    def __post_init__(self) -> None:
        pictures = {int(self.counts.sum()), len(self.face), len(self.image)}
        if len(self.names) != len(self.counts) or len(pictures) > 1 or bool((self.counts < 1).any()):
            raise BadParameter(
                f"features: {len(self.face)} faces and {len(self.image)} pictures of {len(self.names)} people do not "
                f"fit counts that sum to {int(self.counts.sum())}"
            )

    @cached_property
    def digest(self) -> str:
        """The sha256, in hexadecimal, of whose features these are and of their numbers."""
        digest = hashlib.sha256(json.dumps([self.names, self.face_encoder, self.image_encoder]).encode())
        for tensor in (self.face, self.image, self.counts):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def starts(self) -> Tensor:
        """(N,) the place of each person's first picture."""
        return self.counts.cumsum(0) - self.counts

    @property
    def owners(self) -> Tensor:
        """(M,) int64, the place of the person whose picture each is."""
        return torch.arange(len(self.counts), device=self.counts.device).repeat_interleave(self.counts)

    @property
    def mean_faces(self) -> Tensor:
        """(N, Df) float32 unit vectors: the direction of each person's mean face feature."""
        return F.normalize(self.means(self.face), dim=1)

    def means(self, values: Tensor) -> Tensor:
        """Each person's mean (N, K) of values (M, K) of the pictures."""
        sums = values.new_zeros(len(self.names), values.shape[1]).index_add_(0, self.owners, values)
        return sums / self.counts[:, None]

    def of(self, names: Sequence[str]) -> ConditionFeatures:
        """The features of some people, in the order of their names.

        Raises:
            BadParameter: if one is not there.
        """
        known = {name: place for place, name in enumerate(self.names)}
        if missing := [name for name in names if name not in known]:
            raise BadParameter(f"features: {missing[0]} has none ({len(missing)} such); compute them for everyone")
        places = torch.tensor([known[name] for name in names])
        starts, counts = self.starts[places].tolist(), self.counts[places]
        rows = torch.cat([torch.arange(start, start + int(n)) for start, n in zip(starts, counts, strict=True)])
        return ConditionFeatures(
            tuple(names), self.face[rows], self.image[rows], counts, self.face_encoder, self.image_encoder
        )

    def to(self, device: torch.device | str) -> ConditionFeatures:
        """The same on a device."""
        face, image, counts = (tensor.to(device) for tensor in (self.face, self.image, self.counts))
        return ConditionFeatures(self.names, face, image, counts, self.face_encoder, self.image_encoder)

    def draw(self, places: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """A picture of each of some people.

        Args:
            places: (B,) int64 among the people.
            uniform: (B,) in [0, 1): which of the person's pictures.

        Returns:
            (B, Df) and (B, Di).
        """
        counts = self.counts[places]  # (B,)
        rows = self.starts[places] + (uniform * counts).long().clamp(max=counts - 1)  # (B,)
        return self.face[rows], self.image[rows]

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, atomically; the same features give the same bytes."""
        words = {"names": self.names, "face_encoder": self.face_encoder, "image_encoder": self.image_encoder}
        tensors = {"face": self.face, "image": self.image, "counts": self.counts}
        save_safetensors(path, tensors, {"features": json.dumps(words)})

    @classmethod
    def load(cls, path: str | Path) -> ConditionFeatures:
        """Reads what ``save`` wrote.

        Raises:
            BadFile: if the file is missing, damaged or of something else.
        """
        tensors = load_safetensors(path)
        try:
            with safe_open(path, framework="pt") as file:
                words = json.loads(file.metadata()["features"])
            face, image, counts = (tensors[name] for name in _TENSORS)
            return cls(tuple(words["names"]), face, image, counts, words["face_encoder"], words["image_encoder"])
        except (SafetensorError, KeyError, TypeError, ValueError, BadParameter) as error:
            raise BadFile(f"{path}: holds no features ({error}); remove it to compute them again") from error


def encode_people(
    people: PeopleFolder,
    ids: Sequence[str],
    face_encoder: SubjectEncoder,
    image_encoder: CLIPImageEncoder,
    *,
    pictures: Pictures = "all",
    progress: bool = True,
) -> ConditionFeatures:
    """Looks at people's pictures; those without a face are left out.

    Args:
        people: where they are.
        ids: whom.
        face_encoder: E_face. What ``people`` holds of the pack of its name already is not computed again.
        image_encoder: E_img.
        pictures: which pictures of each person.
        progress: whether to show a bar.

    Raises:
        BadImage: if no picture of a person shows a face.
        BadParameter: if there is no such person or nobody.
        BadFile: if a person's file is damaged.
    """
    if not ids:
        raise BadParameter("features: nobody to look at")
    known = people.settings.get("pack") == face_encoder.name
    faces, images, counts = [], [], []
    for identity in tqdm(ids, desc="features", unit="person", disable=not progress):
        person = people.person(identity)
        face, image = _look(person, face_encoder, image_encoder, pictures, known)
        if not len(face):
            raise BadImage(f"{identity}: none of the {pictures} shows a face; leave the person out, or use others")
        faces.append(face)
        images.append(image)
        counts.append(len(face))
    return ConditionFeatures(
        tuple(ids),
        torch.cat(faces),
        torch.cat(images),
        torch.tensor(counts),
        face_encoder.digest,
        image_encoder.digest,
    )


def _look(
    person: Person, face_encoder: SubjectEncoder, image_encoder: CLIPImageEncoder, pictures: Pictures, known: bool
) -> tuple[Tensor, Tensor]:
    """Features (M, Df) and (M, Di) of a person's pictures that show a face."""
    faces, images = [], []
    for part, key, shown in (
        ("references", f"references.{_FACE}", person.references),
        ("images", _FACE, person.images),
    ):
        if pictures not in (part, "all") or not len(shown):
            continue
        arrays = list(shown.permute(0, 2, 3, 1).contiguous().numpy())  # (H, W, 3) each
        face = person.embeddings.get(key) if known else None  # (M, Df)
        if face is None or face.shape != (len(shown), face_encoder.dimension):
            face = torch.from_numpy(face_encoder.encode(arrays).embeddings)
        there = face.float().norm(dim=1) > 0  # (M,)
        faces.append(face.float()[there])
        images.append(image_encoder([array for array, seen in zip(arrays, there, strict=True) if seen]))
    if not faces:
        return torch.empty(0, face_encoder.dimension), torch.empty(0, image_encoder.dimension)
    return torch.cat(faces), torch.cat(images)
