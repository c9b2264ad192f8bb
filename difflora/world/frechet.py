"""Fréchet distance between two sets of pictures, by the features of the world's self-supervised ViT."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from difflora.encoders.images import DinoEncoder


class _Features(nn.Module):
    """An encoder as torchmetrics wants its feature extractor."""

    def __init__(self, encoder: DinoEncoder, features: int) -> None:
        super().__init__()
        self.encoder, self.num_features = encoder, features

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) uint8 to features (N, D) float32."""
        return self.encoder(list(images.permute(0, 2, 3, 1).numpy()))


def frechet_distance(assets: Path, images: Tensor, reference: Tensor) -> float:
    """FID in the sense of Heusel et al. (2017), with the embedded world's ViT in Inception's place.

    Figures compare with each other alone, never with published ones.

    Args:
        assets: the folder of the world's models.
        images: (N, 3, 64, 64) float32 in [0, 1].
        reference: (M, 3, 64, 64) float32 in [0, 1].
    """
    encoder = DinoEncoder(assets / "evaluation" / "dino")
    width = encoder(list(reference[:1].mul(255).byte().permute(0, 2, 3, 1).numpy())).shape[-1]
    metric = FrechetInceptionDistance(feature=_Features(encoder, width), normalize=False, antialias=False)
    for pictures, real in ((reference, True), (images, False)):
        for part in pictures.mul(255).round().byte().split(64):
            metric.update(part, real=real)
    value: Tensor = metric.compute()
    return float(value)
