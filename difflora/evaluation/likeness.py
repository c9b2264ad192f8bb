"""Likeness by two recognisers: the pack that also conditions and filters, and an independent one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from difflora.encoders.recogniser import Array, FaceRecogniser
from difflora.encoders.subject import SubjectEncoder
from difflora.encoders.whole import resized
from difflora.errors import BadParameter
from difflora.identities.filter import largest_faces

RECOGNISERS = ("face_sim", "face_sim_independent")
"""Cosine by InsightFace's pack, which filters and conditions; and by a recogniser that nothing else uses."""


@dataclass(frozen=True)
class Faces:
    """The largest face in each of N pictures, as each recogniser sees it.

    Attributes:
        embeddings: recogniser -> (N, D) float32 unit vectors; zeros where no face was found.
        found: (N,) bool.
    """

    embeddings: dict[str, Tensor]
    found: Tensor


class Likeness:
    """Embeds faces by both recognisers, aligned by the same detector; or whole pictures, where subjects are no people.

    Args:
        pack: InsightFace's pack, or what takes whole pictures in its place.
        independent: file of the other recogniser; None where there is none, which leaves its columns out.

    Raises:
        BadFile: if the file is no recogniser.
        BadParameter: if it is the pack's own.
    """

    def __init__(self, pack: SubjectEncoder, independent: str | Path | None) -> None:
        self._pack = pack
        self._other = FaceRecogniser.open(independent) if independent is not None else None
        if pack.OF_FACES and self._other is not None and self._other.crop_size != pack.crop_size:
            raise BadParameter(f"{independent}: takes {self._other.crop_size} pixels, not {pack.crop_size}")
        if self._other is not None and self._other.file.read_bytes() in [path.read_bytes() for path in pack.files]:
            raise BadParameter(f"{independent}: is the face pack's own recogniser; give one that nothing else uses")

    @property
    def recognisers(self) -> tuple[str, ...]:
        """Their names."""
        return RECOGNISERS if self._other is not None else RECOGNISERS[:1]

    def look(self, images: Tensor) -> Faces:
        """Finds and embeds the largest face of each picture.

        Args:
            images: (N, 3, H, W), uint8 or float in [0, 1], RGB.
        """
        if images.dtype != torch.uint8:
            images = images.clamp(0, 1).mul(255).round().byte()
        crops, _, _, found = largest_faces(self._pack, images)
        embeddings = {RECOGNISERS[0]: _spread(self._pack.embed_crops(crops), found)}
        if self._other is not None:
            # Faces are aligned at one size for both; whole pictures may have any.
            crops = [resized(crop, self._other.crop_size) for crop in crops]
            embeddings[RECOGNISERS[1]] = _spread(self._other.embed(crops), found)
        return Faces(embeddings, found)


def similarity(faces: Faces, others: Faces) -> dict[str, Tensor]:
    """Mean cosine of each of N pictures with another set of pictures; 0 where no face was found, which counts.

    Args:
        faces: N pictures.
        others: M pictures of whom they are to show; those without a face are left out.

    Returns:
        Recogniser -> (N,) float32.
    """
    if not bool(others.found.any()):
        raise BadParameter("none of the pictures to compare with shows a face: use others")
    return {name: (own @ others.embeddings[name][others.found].T).mean(1) for name, own in faces.embeddings.items()}


def _spread(rows: Array, found: Tensor) -> Tensor:
    """Rows at the places of those that were found, (N, D); zeros elsewhere."""
    spread = torch.zeros(len(found), rows.shape[1])
    spread[found] = torch.from_numpy(rows)
    return spread
