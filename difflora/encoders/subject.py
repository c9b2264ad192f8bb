"""What of a picture shows whom it is about: a face, or all of it where subjects are no people, as styles are not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from difflora.encoders.pictures import Picture, to_rgb
from difflora.encoders.recogniser import Array, Pixels
from difflora.errors import BadImage

WHOLE_PICTURES = "whole pictures"
"""The name of what takes the place of a face pack where subjects have no faces."""


@dataclass(frozen=True)
class Face:
    """A face in a picture, or the part of a picture that stands for one.

    Attributes:
        box: (4,) float32, x1, y1, x2, y2 in pixels.
        landmarks: (5, 2) float32, x and y in pixels: eyes, nose, mouth corners, the left one in the picture first.
        score: the detector's confidence, 0 to 1.
    """

    box: Array
    landmarks: Array
    score: float

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


@dataclass(frozen=True)
class FaceEmbeddings:
    """One identity a picture.

    Attributes:
        embeddings: (N, D) float32, unit vectors; zeros where no face was found.
        found: (N,) bool.
        counts: (N,) int64, faces found in each picture.
    """

    embeddings: Array
    found: np.ndarray[Any, np.dtype[np.bool_]]
    counts: np.ndarray[Any, np.dtype[np.int64]]


class SubjectEncoder(ABC):
    """Finds the part of a picture that shows its subject, cuts it out and says who it is.

    Attributes:
        name: of the weights.
        files: their files.
        crop_size: side of what is cut out, in pixels.
        dimension: D, the length of an embedding.
    """

    OF_FACES: ClassVar[bool]
    """Whether it looks for faces; where not, every picture shows its subject, and boxes say nothing."""
    name: str
    files: tuple[Path, ...]
    crop_size: int
    dimension: int

    @property
    @abstractmethod
    def digest(self) -> str:
        """The sha256 that tells its weights from any others', whatever they are called."""

    @property
    @abstractmethod
    def settings(self) -> tuple[Any, ...]:
        """What decides beside the weights what is found, for keys of what was seen; JSON can write it."""

    def faces(self, picture: Picture) -> list[Face]:
        """All faces in a picture, the largest first.

        Raises:
            BadImage: if the picture is no RGB picture of a sensible size.
        """
        return self._detect(to_rgb(picture))

    def crop(self, picture: Picture, face: Face) -> Pixels:
        """The face as the recogniser sees it: (S, S, 3) uint8, RGB."""
        return self._crop(to_rgb(picture), face)

    @abstractmethod
    def _detect(self, pixels: Pixels) -> list[Face]: ...

    @abstractmethod
    def _crop(self, pixels: Pixels, face: Face) -> Pixels: ...

    @abstractmethod
    def embed_crops(self, crops: Sequence[Pixels] | Pixels) -> Array:
        """Identities of what was cut out, the fast path.

        Args:
            crops: N arrays (S, S, 3) uint8, RGB, as :meth:`crop` gives them.

        Returns:
            (N, D) float32, unit vectors.

        Raises:
            BadImage: if a crop has another size.
        """

    def encode(
        self, pictures: Sequence[Picture], *, strict: bool = False, names: Sequence[str] | None = None
    ) -> FaceEmbeddings:
        """The identity of the largest face in each picture.

        Args:
            pictures: N pictures.
            strict: whether each must show exactly one face.
            names: what to call them in errors.

        Returns:
            Embeddings, and where a face was found.

        Raises:
            BadImage: if a picture is unusable or, when ``strict``, shows no face or several.
        """
        labels = list(names) if names is not None else [f"picture {i}" for i in range(len(pictures))]
        crops, counts = [], np.zeros(len(pictures), np.int64)
        for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            pixels = to_rgb(picture, label)
            faces = self._detect(pixels)
            counts[i] = len(faces)
            if strict:
                one_face(faces, label)
            if faces:
                crops.append(self._crop(pixels, faces[0]))
        found = counts > 0
        embeddings = np.zeros((len(pictures), self.dimension), np.float32)
        embeddings[found] = self.embed_crops(crops)
        return FaceEmbeddings(embeddings, found, counts)


def one_face(faces: Sequence[Face], name: str, *, bystanders: float = 0.0) -> Face:
    """The only face of a picture.

    Args:
        faces: the largest first.
        name: what to call the picture in errors.
        bystanders: other faces are let pass up to this part of the largest one's area.

    Raises:
        BadImage: if there is no face, or several.
    """
    if not faces:
        raise BadImage(f"{name}: no face found; give a clear picture of one person, face to the camera")
    count = sum(face is faces[0] or face.area > bystanders * faces[0].area for face in faces)
    if count > 1:
        raise BadImage(f"{name}: {count} faces found; crop the picture to the one person who is meant")
    return faces[0]
