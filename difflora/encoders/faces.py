"""Faces and identities by InsightFace, from any pack in a local folder: the embedded one, ``buffalo_l`` and others.

encoder = InsightFaceEncoder("assets/embedded/insightface", "world", det_size=(128, 128))
embedding = encoder.encode([photo], strict=True).embeddings[0]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from difflora.encoders.digest import sha256_files
from difflora.encoders.pack import open_pack, without_warnings
from difflora.encoders.pictures import Picture, to_rgb
from difflora.encoders.recogniser import Array, FaceRecogniser, Pixels
from difflora.errors import BadImage


@dataclass(frozen=True)
class Face:
    """A face in a picture.

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


class InsightFaceEncoder:
    """InsightFace's detector, alignment and recogniser, with the recogniser run on batches.

    Args:
        root: folder that holds ``models/NAME``; nothing is downloaded into it.
        name: the pack's name.
        det_size: width and height at which the detector looks at a picture; multiples of 32. 128 suits the embedded
            pack, 640 the real ones.
        det_thresh: least score of a face, 0 to 1.
        provider: onnxruntime's execution provider without its suffix: ``CPU``, ``CUDA``...
        batch_size: faces that the recogniser takes at a time.

    Attributes:
        files: the detector's and the recogniser's file.

    Raises:
        BadFile: if the pack is missing or broken.
    """

    def __init__(
        self,
        root: str | Path,
        name: str,
        *,
        det_size: tuple[int, int] = (640, 640),
        det_thresh: float = 0.5,
        provider: str = "CPU",
        batch_size: int = 64,
    ) -> None:
        app = open_pack(root, name, det_size=det_size, det_thresh=det_thresh, provider=provider)
        self._detector = app.models["detection"]
        self._recogniser = FaceRecogniser(app.models["recognition"], batch_size)
        self.name, self.det_size, self.det_thresh = name, det_size, det_thresh
        self.files = (Path(self._detector.model_file), self._recogniser.file)
        self.batch_size, self.crop_size = self._recogniser.batch_size, self._recogniser.crop_size
        self.dimension = self._recogniser.dimension

    @cached_property
    def digest(self) -> str:
        """The sha256 of its files: what tells a pack's weights from another's, whatever they are called."""
        return sha256_files(self.files)

    def faces(self, picture: Picture) -> list[Face]:
        """All faces in a picture, the largest first.

        Raises:
            BadImage: if the picture is no RGB picture of a sensible size.
        """
        return self._detect(to_rgb(picture))

    def _detect(self, pixels: Pixels) -> list[Face]:
        boxes, landmarks = self._detector.detect(np.ascontiguousarray(pixels[..., ::-1]))
        found = [
            Face(box[:4].astype(np.float32), points.astype(np.float32), float(box[4]))
            for box, points in zip(boxes, landmarks, strict=True)
        ]
        return sorted(found, key=lambda face: -face.area)

    def crop(self, picture: Picture, face: Face) -> Pixels:
        """The face as the recogniser sees it, aligned by InsightFace: (112, 112, 3) uint8, RGB."""
        return self._crop(to_rgb(picture), face)

    def _crop(self, pixels: Pixels, face: Face) -> Pixels:
        from insightface.utils import face_align

        with without_warnings():
            crop: Pixels = face_align.norm_crop(pixels, landmark=face.landmarks, image_size=self.crop_size)
        return crop

    def embed_crops(self, crops: Sequence[Pixels] | Pixels) -> Array:
        """Identities of aligned faces, the fast path.

        Args:
            crops: N arrays (112, 112, 3) uint8, RGB, as :meth:`crop` gives them.

        Returns:
            (N, D) float32, unit vectors.

        Raises:
            BadImage: if a crop has another size.
        """
        return self._recogniser.embed(crops)

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
