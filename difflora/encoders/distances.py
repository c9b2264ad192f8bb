"""Distances between two sets of pictures by their features: Fréchet (FID) and kernel (KID), both torchmetrics'.

Figures of one encoder and one reference set compare with each other alone, never with published ones.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from difflora.errors import BadParameter

_SUBSETS, _SUBSET_SIZE, _SEED = 50, 1000, 0


class _AsGiven(nn.Module):
    """Stands where torchmetrics wants an encoder of pictures: the features are there already."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """FID in the sense of Heusel et al. (2017), with any encoder in Inception's place.

    Args:
        features: (N, D) of the pictures.
        reference: (M, D) of the reference set, by the same encoder.

    Raises:
        BadParameter: if a set holds fewer than two pictures.
    """
    _check(features, reference)
    metric = FrechetInceptionDistance(feature=_AsGiven(features.shape[1]), normalize=False, antialias=False)
    metric.update(reference.double(), real=True)
    metric.update(features.double(), real=False)
    return float(metric.compute())


def kernel_distance(features: Tensor, reference: Tensor, gamma: float | None = None) -> float:
    """KID in the sense of Bińkowski et al. (2018): the squared MMD under the kernel ``(gamma x.y + 1)^3``.

    It is unbiased, unlike FID, whatever the number of pictures; values just below zero are within its noise.

    Args:
        features: (N, D) of the pictures.
        reference: (M, D) of the reference set, by the same encoder.
        gamma: None for 1 / D, which suits Inception's features; 1 suits those of unit length.

    Raises:
        BadParameter: if a set holds fewer than two pictures.
    """
    _check(features, reference)
    size = min(_SUBSET_SIZE, len(features), len(reference))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # that it keeps the features, which are here anyway
        torch.manual_seed(_SEED)  # it draws its subsets from the global generator
        metric = KernelInceptionDistance(
            feature=_AsGiven(features.shape[1]), subsets=_SUBSETS, subset_size=size, gamma=gamma
        )
        metric.update(reference.double(), real=True)
        metric.update(features.double(), real=False)
        return float(metric.compute()[0])


def _check(features: Tensor, reference: Tensor) -> None:
    if min(len(features), len(reference)) < 2:
        raise BadParameter(f"{len(features)} pictures against {len(reference)}: a distance needs two of each or more")
