"""What the training people's LoRAs and features alone can do: retrieval and regressions.

Principal components are known by the products of LoRAs with each other, and what a regression gives is a sum of LoRAs:
so the components themselves, each as large as a LoRA, are never made, and LoRAs are read in blocks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from difflora.evaluation.settings import RegressionSettings
from difflora.models.linear_path import spectrum
from difflora.training import ConditionFeatures
from difflora.training.ridge import fit_ridge
from difflora.training.rows import LoraRows

BLOCK_BYTES = 2**30
"""Of LoRAs in float32 that are read at a time; two such blocks are held."""

_NUMBERS_AT_ONCE = 2**23


@dataclass(frozen=True)
class Rivals:
    """Retrieval among all training people, and regressions learnt from the first of them.

    Attributes:
        mean: (D,) the mean LoRA of those whom regressions learn from.
        rows: everyone's LoRAs, read when they are wanted.
        features: everyone's pictures' features.
        learnt: the features of the N people whom regressions learn from, the first ones.
        latents: (N, K) their principal components at unit variance.
        settings: of the regressions.
        seed: of the MLP.
    """

    mean: Tensor
    rows: LoraRows
    features: ConditionFeatures
    learnt: ConditionFeatures
    latents: Tensor
    settings: RegressionSettings
    seed: int

    @classmethod
    def of(cls, rows: LoraRows, features: ConditionFeatures, settings: RegressionSettings, seed: int = 0) -> Rivals:
        """Goes through the training people's LoRAs for their mean and products.

        Raises:
            BadParameter: if there are fewer than 2 people.
        """
        count = min(len(rows), settings.people)
        mean, products = _moments(rows, count)
        _, vectors = spectrum(products, settings.components)  # (N, K)
        names = rows.names
        latents = math.sqrt(count) * vectors.float()
        return cls(mean, rows, features.of(names), features.of(names[:count]), latents, settings, seed)

    def retrieval(self, face: Tensor) -> Tensor:
        """The LoRA of the training person whose mean face is nearest: (P, Df) -> (P, D)."""
        nearest = (face @ self.features.mean_faces.T).argmax(1)  # (P,)
        return self.rows.take(nearest)

    def ridge(self, face: Tensor, image: Tensor) -> Tensor:
        """Ridge regression from both features to principal components: -> (P, D)."""
        inputs = _inputs(self.learnt.face, self.learnt.image)
        fitted = fit_ridge(inputs, self.latents, self.learnt.owners, self.settings.ridge)
        return self._rows(_inputs(face, image) @ fitted.weight.T + fitted.bias)

    def mlp(self, face: Tensor, image: Tensor) -> Tensor:
        """A multi-layer perceptron from both features to principal components: -> (P, D)."""
        scale = StandardScaler().fit(_inputs(self.learnt.face, self.learnt.image).numpy())
        network = MLPRegressor(
            hidden_layer_sizes=self.settings.hidden,
            max_iter=self.settings.mlp_epochs,
            early_stopping=True,
            n_iter_no_change=5,
            random_state=self.seed,
        )
        targets = self.latents[self.learnt.owners]  # (M, K)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(scale.transform(_inputs(self.learnt.face, self.learnt.image).numpy()), targets.numpy())
        made = network.predict(scale.transform(_inputs(face, image).numpy()))
        return self._rows(torch.from_numpy(made).float().reshape(len(face), -1))

    def _rows(self, latents: Tensor) -> Tensor:
        """LoRAs (P, D) of latents (P, K).

        With X the rows without their mean, U s V^T its singular value decomposition and ``self.latents`` U sqrt(N), the
        deviations are s / sqrt(N), so that ``latents deviations V^T = latents U^T X / sqrt(N)``, a sum of rows.
        """
        count = len(self.latents)
        weights = latents @ self.latents.T / count  # (P, N)
        made = self.mean.repeat(len(latents), 1)  # (P, D)
        for here in _blocks(count, len(self.mean)):
            made += weights[:, here] @ (self.rows.take(range(here.start, here.stop)) - self.mean)
        return made


def _moments(rows: LoraRows, count: int) -> tuple[Tensor, Tensor]:
    """The mean (D,) float32 of the first rows, and their products (N, N) float64 with each other without it."""
    products = torch.zeros(count, count, dtype=torch.float64)
    total = torch.zeros(rows.layout.size, dtype=torch.float64)
    blocks = list(_blocks(count, rows.layout.size))
    for place, one in enumerate(blocks):
        part = rows.take(range(one.start, one.stop))  # (B, D)
        total += part.sum(0, dtype=torch.float64)
        for other in blocks[: place + 1]:
            theirs = part if other == one else rows.take(range(other.start, other.stop))
            found = _product(part, theirs)
            products[one, other], products[other, one] = found, found.T
    middle = products.mean(0)  # (N,): products with the mean
    return (total / count).float(), products - middle - middle[:, None] + middle.mean()


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Products (B, C) in float64 of rows (B, D) and (C, D), some columns at a time."""
    found = torch.zeros(len(one), len(other), dtype=torch.float64)
    step = max(1, _NUMBERS_AT_ONCE // max(len(one), len(other)))
    for left, right in zip(one.split(step, dim=1), other.split(step, dim=1), strict=True):
        found.addmm_(left.double(), right.double().T)
    return found


def _blocks(count: int, size: int) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // (4 * size))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _inputs(face: Tensor, image: Tensor) -> Tensor:
    return torch.cat([face, image], dim=1)
