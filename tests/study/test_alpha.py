"""Alpha by hand: each expected value is worked out beside it, or stands in Krippendorff's own paper."""

from __future__ import annotations

import pytest

from difflora.study.alpha import ordinal_alpha


def test_krippendorffs_own_example() -> None:
    # "Computing Krippendorff's Alpha-Reliability" (2011), section C: four observers, twelve units, 0.815 for ordinal.
    rows = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
    columns = zip(*(row.split() for row in rows), strict=True)
    units = [[int(mark) for mark in column if mark != "."] for column in columns]
    assert ordinal_alpha(units) == pytest.approx(0.815, abs=5e-4)


def test_agreement_of_chance() -> None:
    # o_11 = 2, o_12 = o_21 = 1; n_1 = 3, n_2 = 1, n = 4. d_12 = (3 + 1 - 2)^2 = 4.
    # 1 - (4 - 1) * (2 * 4) / (2 * 3 * 1 * 4) = 0.
    assert ordinal_alpha([[1, 1], [1, 2]]) == pytest.approx(0.0)


def test_systematic_disagreement() -> None:
    # o_15 = o_51 = 2; n_1 = n_5 = 2, n = 4. d_15 = (2 + 0 + 0 + 0 + 2 - 2)^2 = 4.
    # 1 - 3 * (2 * 2 * 4) / (2 * 2 * 2 * 4) = -0.5.
    assert ordinal_alpha([[1, 5], [5, 1]]) == pytest.approx(-0.5)


def test_a_near_miss_costs_less_than_a_far_one() -> None:
    # n_1 = 3, n_2 = 4, n_5 = 3 both times. d_12 = (7 - 3.5)^2 = 12.25, d_25 the same, d_15 = (10 - 3)^2 = 49.
    # Expected: 2 * (12 * 12.25 + 9 * 49 + 12 * 12.25) = 1470. Near: o_12 = o_25 = 1, so 2 * 2 * 12.25 = 49 and
    # 1 - 9 * 49 / 1470 = 0.7. Far: o_15 = 1, so 2 * 49 = 98 and 1 - 9 * 98 / 1470 = 0.4.
    assert ordinal_alpha([[1, 1], [5, 5], [2, 2], [1, 2], [2, 5]]) == pytest.approx(0.7)
    assert ordinal_alpha([[1, 1], [5, 5], [2, 2], [2, 2], [1, 5]]) == pytest.approx(0.4)


def test_three_raters_of_one_unit_are_weighted_by_their_pairs() -> None:
    # Unit [1, 1, 2]: pairs over (3 - 1): o_11 = 1, o_12 = o_21 = 1. Unit [2, 2]: o_22 = 2. n_1 = 2, n_2 = 3, n = 5.
    # d_12 = (5 - 2.5)^2 = 6.25. 1 - 4 * (2 * 6.25) / (2 * 6 * 6.25) = 1 - 8 / 12.
    assert ordinal_alpha([[1, 1, 2], [2, 2]]) == pytest.approx(1 / 3)


def test_full_agreement_and_order_of_raters() -> None:
    assert ordinal_alpha([[1, 1], [5, 5, 5], [3, 3]]) == pytest.approx(1.0)
    assert ordinal_alpha([[1, 2, 4], [5, 3]]) == pytest.approx(ordinal_alpha([[4, 1, 2], [3, 5]]))


@pytest.mark.parametrize("units", [[], [[1], [5]], [[3, 3], [3, 3]], [[]]])
def test_what_cannot_be_told(units: list[list[int]]) -> None:
    assert ordinal_alpha(units) is None


def test_a_single_vote_changes_nothing() -> None:
    assert ordinal_alpha([[1, 1], [1, 2], [5]]) == ordinal_alpha([[1, 1], [1, 2]])
