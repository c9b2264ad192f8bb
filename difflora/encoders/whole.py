"""Whole pictures where a pipeline takes faces: for styles and other subjects that have none (paper, 4.6)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from difflora.encoders.images import CLIPImageEncoder
from difflora.encoders.recogniser import Array, Pixels, check_crops
from difflora.encoders.subject import WHOLE_PICTURES, Face, SubjectEncoder


def resized(pixels: Pixels, side: int) -> Pixels:
    """A square picture (S, S, 3) at another size, as CLIP's processor does it."""
    if pixels.shape[0] == side:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


class WholePictureEncoder(SubjectEncoder):
    """CLIP's embedding of a picture's middle square, in the place of a face's.

    Every picture shows its subject, so no filter, crop or score asks for a face.

    Args:
        images: the image encoder.
    """

    OF_FACES: ClassVar[bool] = False

    def __init__(self, images: CLIPImageEncoder) -> None:
        self.images = images
        self.name, self.files = WHOLE_PICTURES, images.files
        self.crop_size, self.dimension = int(images.model.vision_model.config.image_size), images.dimension

    @cached_property
    def digest(self) -> str:
        """Of the image encoder's files, and that they are used so."""
        return hashlib.sha256(f"{WHOLE_PICTURES}: {self.images.digest}".encode()).hexdigest()

    @property
    def settings(self) -> tuple[Any, ...]:
        """None."""
        return ()

    def _detect(self, pixels: Pixels) -> list[Face]:
        height, width = pixels.shape[:2]
        return [Face(np.array([0, 0, width, height], np.float32), np.zeros((5, 2), np.float32), 1.0)]

    def _crop(self, pixels: Pixels, face: Face) -> Pixels:
        height, width = pixels.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resized(np.ascontiguousarray(pixels[top : top + side, left : left + side]), self.crop_size)

    def embed_crops(self, crops: Sequence[Pixels] | Pixels) -> Array:
        """CLIP's embeddings of pictures of its size.

        Args:
            crops: N arrays (S, S, 3) uint8, RGB.

        Returns:
            (N, D) float32, unit vectors.

        Raises:
            BadImage: if a crop has another size.
        """
        check_crops(crops, self.crop_size)
        return np.asarray(self.images(list(crops)).numpy(), np.float32)
