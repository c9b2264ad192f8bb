"""Faces and identities by InsightFace, from any pack in a local folder: the embedded one, ``buffalo_l`` and others.

encoder = InsightFaceEncoder("assets/embedded/insightface", "world", det_size=(128, 128))
embedding = encoder.encode([photo], strict=True).embeddings[0]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from difflora.encoders.digest import sha256_files
from difflora.encoders.pack import open_pack, without_warnings
from difflora.encoders.recogniser import Array, FaceRecogniser, Pixels
from difflora.encoders.subject import Face, SubjectEncoder


class InsightFaceEncoder(SubjectEncoder):
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
        recogniser: says who a crop is.

    Raises:
        BadFile: if the pack is missing or broken.
    """

    OF_FACES: ClassVar[bool] = True

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
        self.recogniser = FaceRecogniser(app.models["recognition"], batch_size)
        self.name, self.det_size, self.det_thresh = name, det_size, det_thresh
        self.files = (Path(self._detector.model_file), self.recogniser.file)
        self.batch_size, self.crop_size = self.recogniser.batch_size, self.recogniser.crop_size
        self.dimension = self.recogniser.dimension

    @cached_property
    def digest(self) -> str:
        """The sha256 of its files: what tells a pack's weights from another's, whatever they are called."""
        return sha256_files(self.files)

    @property
    def settings(self) -> tuple[Any, ...]:
        """How the detector looks."""
        return self.det_size, self.det_thresh

    def _detect(self, pixels: Pixels) -> list[Face]:
        boxes, landmarks = self._detector.detect(np.ascontiguousarray(pixels[..., ::-1]))
        found = [
            Face(box[:4].astype(np.float32), points.astype(np.float32), float(box[4]))
            for box, points in zip(boxes, landmarks, strict=True)
        ]
        return sorted(found, key=lambda face: -face.area)

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
        return self.recogniser.embed(crops)
