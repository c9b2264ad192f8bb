"""Fig. 8b: t-SNE of training and generated weights, and whether generated LoRAs are copies of training ones.

All of it is of flat LoRAs as the autoencoder sees them: in canonical form where it is trained so, without the training
people's mean, each module's A and B at unit scale. Everything follows from the rows' products with each other, so rows
are gone through once, some columns at a time.

A LoRA counts as a copy where its nearest training LoRA is nearer than a third of the distance to the second nearest
(the criterion for diffusion models of Yoon et al., "Diffusion Probabilistic Models Generalize when They Fail to
Memorize", 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from torch import Tensor

from difflora.errors import BadParameter
from difflora.evaluation.figures.canvas import BLUE, GREEN, GREY, RED, Array, Drawing, panels

KINDS = {"training": "training people", "held-out": "held-out people's own", "generated": "generated"}
COPY = 1 / 3
"""A nearest distance below this part of the second nearest is a copy."""

_MOST_PERPLEXITY = 30.0
_COMPONENTS = 50
_NUMBERS_AT_ONCE = 2**23


@dataclass(frozen=True)
class Nearest:
    """Distances to training LoRAs, each the root mean square over the numbers of a LoRA.

    Attributes:
        nearest: kind -> (N,) the distance to the nearest one; of a training LoRA to the nearest other.
        ratio: kind -> (N,) that over the distance to the second nearest.
    """

    nearest: dict[str, Array]
    ratio: dict[str, Array]

    def copies(self, kind: str) -> float:
        """The part of a kind that are copies."""
        return float((self.ratio[kind] < COPY).mean())


@dataclass(frozen=True)
class WeightMap:
    """Where LoRAs lie.

    Attributes:
        points: kind -> (N, 2) t-SNE's coordinates.
        perplexity: of t-SNE.
        components: principal components that t-SNE saw.
        explained: the part of the variance that they hold.
        distances: to training LoRAs.
    """

    points: dict[str, Array]
    perplexity: float
    components: int
    explained: float
    distances: Nearest


def perplexity_for(count: int) -> float:
    """scikit-learn's 30, less where there are few points: a third of the neighbours that a point has."""
    return min(_MOST_PERPLEXITY, max(1.0, (count - 1) / 3))


def products(rows: Tensor) -> Array:
    """Products (N, N) in float64 of rows (N, D) float32 with each other, over D."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for part in rows.split(max(1, _NUMBERS_AT_ONCE // len(rows)), dim=1):
        total.addmm_(part.double(), part.double().T)
    return (total / rows.shape[1]).numpy()


def nearest_training(gram: Array, sizes: dict[str, int]) -> Nearest:
    """How near each LoRA comes to training ones.

    Args:
        gram: (N, N) of ``products``; the training people's rows come first.
        sizes: kind -> how many rows, in order; ``training`` first.
    """
    squares = np.diag(gram)
    distances = np.sqrt(np.maximum(0, squares[:, None] + squares[None] - 2 * gram))[:, : sizes["training"]]
    np.fill_diagonal(distances, np.inf)  # nobody is the own neighbour
    closest = np.sort(distances, axis=1)[:, :2]  # (N, 2)
    nearest, ratio, start = {}, {}, 0
    for kind, size in sizes.items():
        own = closest[start : start + size]
        nearest[kind] = own[:, 0]
        ratio[kind] = np.divide(own[:, 0], own[:, 1], out=np.zeros(size), where=own[:, 1] > 0)
        start += size
    return Nearest(nearest, ratio)


def measure_weights(rows: Tensor, sizes: dict[str, int], seed: int) -> WeightMap:
    """Lays LoRAs out in two dimensions and measures distances.

    Args:
        rows: (N, D) float32, normalised.
        sizes: kind -> how many of the rows, in order; ``training`` first.
        seed: of t-SNE.

    Raises:
        BadParameter: if there are fewer than 3 training LoRAs, or fewer than 5 in all.
    """
    count = len(rows)
    if sizes["training"] < 3 or count < 5:
        raise BadParameter(f"t-SNE of {sizes['training']} training LoRAs and {count} in all: give at least 3 and 5")
    gram = products(rows)
    middle = np.eye(count) - 1 / count
    squares, vectors = np.linalg.eigh(middle @ gram @ middle)  # (N,) rising
    squares, vectors = np.maximum(0, squares[::-1]), vectors[:, ::-1]
    kept = min(_COMPONENTS, count - 1)
    scores = vectors[:, :kept] * np.sqrt(squares[:kept])  # (N, K): principal components
    perplexity = perplexity_for(count)
    made = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(scores)  # (N, 2)
    parts = np.split(made.astype(np.float64), np.cumsum(list(sizes.values()))[:-1])
    return WeightMap(
        dict(zip(sizes, parts, strict=True)),
        perplexity,
        kept,
        float(squares[:kept].sum() / squares.sum()),
        nearest_training(gram, sizes),
    )


def draw_weights(found: WeightMap) -> Drawing:
    """The map, and beside it the distances to the nearest training LoRA."""
    figure, (left, right) = panels(2, 10.5, 4.6, width_ratios=(1.2, 1))
    look: dict[str, dict[str, Any]] = {
        "training": {"color": GREY, "marker": "o", "s": 14},
        "held-out": {"color": BLUE, "marker": "^", "s": 34},
        "generated": {"color": RED, "marker": "x", "s": 34},
    }
    for kind, points in found.points.items():
        left.scatter(points[:, 0], points[:, 1], label=f"{KINDS[kind]} ({len(points)})", **look[kind])
    if {"held-out", "generated"} <= set(found.points):
        for one, other in zip(found.points["held-out"], found.points["generated"], strict=False):
            left.plot(*zip(one, other, strict=True), color=GREEN, linewidth=0.5, zorder=0)
    left.set_xticks([])
    left.set_yticks([])
    left.grid(False)
    left.set_xlabel("t-SNE 1 (no unit)")
    left.set_ylabel("t-SNE 2 (no unit)")
    left.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, handletextpad=0.2)
    nearest = found.distances.nearest
    right.boxplot(
        list(nearest.values()),
        whis=(0, 100),
        widths=0.5,
        medianprops={"color": RED, "linewidth": 1.8},
        tick_labels=[KINDS[kind].replace(" people", "\npeople") for kind in nearest],
    )
    right.set_ylim(0)
    right.set_ylabel(
        "distance to the nearest training LoRA\n(root mean square, 1 = spread of the weights)", labelpad=10
    )
    medians = {kind: float(np.median(values)) for kind, values in nearest.items()}
    said = ", ".join(f"{KINDS[kind]} {value:.3f}" for kind, value in medians.items())
    copies = ", ".join(f"{KINDS[kind]} {found.distances.copies(kind):.0%}" for kind in nearest)
    return Drawing(
        figure,
        "Fig. 8b: training and generated weights",
        "t-SNE of flat LoRAs at unit scale, by "
        f"{found.components} principal components ({found.explained:.0%} of the variance), perplexity "
        f"{found.perplexity:.0f}; thin lines join a held-out person's own LoRA with the generated one. Right: distance "
        "to the nearest training LoRA (of a training LoRA, to the nearest other): quartiles and extremes. Medians: "
        f"{said}. Copies, whose nearest training LoRA is nearer than a third of the second nearest: {copies}. "
        "Generated LoRAs shrink towards the mean, which brings them nearer to all.",
        f"A map of points and a box plot of distances to the nearest training LoRA, medians: {said}; copies: {copies}.",
    )
