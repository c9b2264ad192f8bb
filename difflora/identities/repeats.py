"""What is there twice: pictures and faces nearer to each other than a threshold, among many, in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from difflora.errors import BadParameter

_SIDE = 16
_MOST_A_ROW = 100

Pair = tuple[int, int, float]
"""Two places and the cosine between them."""


def thumbnail(picture: Image.Image) -> Tensor:
    """What a picture looks like from afar: its colours on 16 x 16 fields, less their means, as a unit vector.

    Another size, quality or format of the same picture stays near it by cosine, and other pictures hardly come there.

    Args:
        picture: RGB.

    Returns:
        (768,) float32; zeros for a picture of one colour.
    """
    small = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)  # (16, 16, 3)
    changes = torch.from_numpy(small - small.mean(axis=(0, 1))).flatten()
    return torch.nn.functional.normalize(changes, dim=0)


def similar_pairs(vectors: Tensor, threshold: float, others: Tensor | None = None, block: int = 4096) -> list[Pair]:
    """All pairs whose cosine reaches a threshold; memory is of a block, never of all pairs.

    Args:
        vectors: (N, D) unit vectors, or zeros, which are near nothing.
        threshold: above 0.
        others: (M, D), to compare with; None for the vectors among themselves, each pair once, the first one first.
        block: rows compared at a time.

    Returns:
        Pairs in rising order of places.

    Raises:
        BadParameter: if nearly everything is near everything, so that the threshold tells nothing.
    """
    found = list[Pair]()
    most = _MOST_A_ROW * (len(vectors) + block)
    for rows, columns, cosines in _blocks(vectors, others, block):
        near = cosines >= threshold
        if others is None and rows == columns:
            near = near.triu(1)
        places = near.nonzero()  # (K, 2)
        if len(found) + len(places) > most:
            raise BadParameter(
                f"a cosine of {threshold} tells nothing among {len(vectors)} faces or pictures: give a higher one"
            )
        values = cosines[near].tolist()
        found += [(rows + i, columns + j, value) for (i, j), value in zip(places.tolist(), values, strict=True)]
    return sorted(found)


def _blocks(vectors: Tensor, others: Tensor | None, block: int) -> Iterator[tuple[int, int, Tensor]]:
    """First row, first column and cosines of each block; of a square matrix the upper half."""
    against = vectors if others is None else others
    for rows in range(0, len(vectors), block):
        for columns in range(rows if others is None else 0, len(against), block):
            yield rows, columns, vectors[rows : rows + block] @ against[columns : columns + block].T


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Who belongs together, directly or through others: groups of two and more, places rising."""
    if not pairs:
        return []
    ends = np.array(pairs)
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count))
    _, labels = connected_components(graph, directed=False)
    members = dict[int, list[int]]()
    for place in np.unique(ends).tolist():
        members.setdefault(int(labels[place]), []).append(place)
    return sorted(members.values())
