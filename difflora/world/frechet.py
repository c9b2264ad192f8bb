"""Fréchet distance between two sets of pictures, by the features of the world's self-supervised ViT."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from difflora.encoders.distances import frechet_distance as distance_of_features
from difflora.encoders.images import DinoEncoder, as_arrays


def frechet_distance(assets: Path, images: Tensor, reference: Tensor) -> float:
    """FID with the embedded world's ViT in Inception's place.

    Args:
        assets: the folder of the world's models.
        images: (N, 3, 64, 64) float32 in [0, 1].
        reference: (M, 3, 64, 64) float32 in [0, 1].
    """
    encoder = DinoEncoder(assets / "evaluation" / "dino")
    return distance_of_features(encoder(as_arrays(images)), encoder(as_arrays(reference)))
