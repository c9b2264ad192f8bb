from __future__ import annotations

import math

import pytest

from difflora.world.bars import Bar


@pytest.mark.parametrize(
    ("goal", "figure", "at_least", "passed"),
    [
        (0.9, 0.9, True, True),
        (0.9, 0.89, True, False),
        (0.25, 0.25, False, True),
        (0.25, 0.26, False, False),
        (math.nan, 3.0, True, True),
        (math.nan, math.nan, True, False),
        (0.9, math.nan, True, False),
        (0.25, math.nan, False, False),
    ],
)
def test_passed(goal: float, figure: float, at_least: bool, passed: bool) -> None:
    assert Bar("name", goal, figure, at_least).passed is passed
