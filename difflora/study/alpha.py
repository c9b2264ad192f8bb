"""Krippendorff's alpha: how far raters agree beyond chance, with any number of them and votes missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ordinal_alpha(units: Sequence[Sequence[int]], least: int = 1, most: int = 5) -> float | None:
    """Alpha for ordered marks (Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011, section C to E).

    ``1 - (n - 1) sum_ck o_ck d_ck / sum_ck n_c n_k d_ck``, where ``o`` are the coincidences of marks on the same unit,
    ``n_c`` their row sums, and ``d_ck = (sum of n_g over g from c to k - (n_c + n_k) / 2)^2``.

    Args:
        units: each rated thing's marks, in any order; things with fewer than two are left out.
        least: the lowest mark.
        most: the highest mark.

    Returns:
        1 for perfect agreement, 0 for that of chance, less for systematic disagreement; None where no two raters
        marked the same thing, or all marks are the same.
    """
    levels = most - least + 1
    coincidences = np.zeros((levels, levels))
    for marks in units:
        if len(marks) < 2:
            continue
        counts = np.bincount(np.asarray(marks) - least, minlength=levels).astype(float)
        pairs = np.outer(counts, counts) - np.diag(counts)  # ordered pairs of two raters
        coincidences += pairs / (len(marks) - 1)
    sums = coincidences.sum(1)
    upto = np.cumsum(sums)
    # |U_k - U_c| with U the middle of a mark's ranks is the sum from c to k less half of both ends.
    middles = upto - sums / 2
    distance = (middles[:, None] - middles[None, :]) ** 2
    expected = float((np.outer(sums, sums) * distance).sum())
    if expected == 0:
        return None
    return 1 - (float(sums.sum()) - 1) * float((coincidences * distance).sum()) / expected
