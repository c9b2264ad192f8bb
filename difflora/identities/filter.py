"""Keeping the pictures that look most like the person (Fig. 5: the 85 most similar of 100, by InsightFace)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from difflora.encoders.recogniser import Pixels
from difflora.encoders.subject import SubjectEncoder
from difflora.errors import BadImage


@dataclass(frozen=True)
class Sighting:
    """The largest face in each of M pictures.

    Attributes:
        embeddings: (M, D) float32, unit vectors; zeros where there is none.
        boxes: (M, 4) float32, x1, y1, x2, y2 in pixels; zeros where there is none.
        landmarks: (M, 5, 2) float32, eyes, nose and corners of the mouth in pixels; zeros where there is none.
        found: (M,) bool.
    """

    embeddings: Tensor
    boxes: Tensor
    landmarks: Tensor
    found: Tensor


def look(encoder: SubjectEncoder, images: Tensor) -> Sighting:
    """Finds and embeds the largest face of each picture.

    Args:
        encoder: the face pack.
        images: (M, 3, H, W) uint8, RGB.

    Raises:
        BadImage: if a picture is unusable.
    """
    crops, boxes, landmarks, found = largest_faces(encoder, images)
    embeddings = torch.zeros(len(images), encoder.dimension)
    embeddings[found] = torch.from_numpy(encoder.embed_crops(crops))
    return Sighting(embeddings, boxes, landmarks, found)


def largest_faces(encoder: SubjectEncoder, images: Tensor) -> tuple[list[Pixels], Tensor, Tensor, Tensor]:
    """Finds the largest face of each picture.

    Args:
        encoder: the face pack.
        images: (M, 3, H, W) uint8, RGB.

    Returns:
        Aligned crops of those that were found, boxes (M, 4) and landmarks (M, 5, 2) with zeros elsewhere and where the
        encoder looks for no faces, and who was found (M,) bool.

    Raises:
        BadImage: if a picture is unusable.
    """
    boxes, landmarks = torch.zeros(len(images), 4), torch.zeros(len(images), 5, 2)
    found = torch.zeros(len(images), dtype=torch.bool)
    crops = []
    for i, image in enumerate(images):
        picture = image.permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
        faces = encoder.faces(picture)
        if faces:
            found[i] = True
            if encoder.OF_FACES:
                boxes[i], landmarks[i] = torch.from_numpy(faces[0].box), torch.from_numpy(faces[0].landmarks)
            crops.append(encoder.crop(picture, faces[0]))
    return crops, boxes, landmarks, found


def centre(embeddings: Tensor) -> Tensor:
    """The person's mean embedding, by the half of the pictures nearest to their medoid: strangers have no say.

    Args:
        embeddings: (N, D) unit vectors, N at least 1.

    Returns:
        (D,), a unit vector.
    """
    cosines = embeddings @ embeddings.T  # (N, N)
    medoid = cosines.median(dim=1).values.argmax()
    nearest = cosines[medoid].argsort(descending=True, stable=True)[: (len(embeddings) + 1) // 2]
    return torch.nn.functional.normalize(embeddings[nearest].mean(0), dim=0)


def most_similar(embeddings: Tensor, found: Tensor, keep: int, identity: str) -> tuple[Tensor, Tensor]:
    """Chooses the pictures most similar to the person.

    Args:
        embeddings: (M, D) unit vectors.
        found: (M,) bool; pictures without a face are dropped first.
        keep: how many are wanted.
        identity: the person's id, for the error.

    Returns:
        Places of the kept pictures in rising order (keep,) int64, and each one's cosine to the centre (keep,).

    Raises:
        BadImage: if fewer than ``keep`` pictures show a face.
    """
    places = found.nonzero().squeeze(1)
    if len(places) < keep:
        raise BadImage(
            f"{identity}: only {len(places)} of {len(found)} candidates show a face, {keep} are to be kept; "
            "make more candidates, or keep fewer"
        )
    cosines = embeddings[places] @ centre(embeddings[places])  # (N,)
    chosen = cosines.argsort(descending=True, stable=True)[:keep].sort().values
    return places[chosen], cosines[chosen]


def in_order(kept: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Splits kept pictures so that the same place of everyone's list holds the same candidate, but for dropped ones.

    Args:
        kept: (N,) int64 places of candidates, rising.
        count: how many to learn from, at most N.

    Returns:
        Places of those to learn from (count,): the first ``count`` candidates, a dropped one replaced by the first
        kept one beyond them; and the rest (N - count,).
    """
    learnt, spare = torch.arange(count), kept[kept >= count]
    dropped = ~torch.isin(learnt, kept)  # (count,)
    lacking = int(dropped.sum())
    learnt[dropped] = spare[:lacking]
    return learnt, spare[lacking:]


def pick(items: Sequence[str], places: Tensor) -> list[str]:
    """The items at these places."""
    return [items[place] for place in places.tolist()]
