"""A measured figure beside the goal that was set for it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One row of ``difflora world verify``.

    Attributes:
        name: what was measured, with its unit.
        goal: the bound it is held against; NaN where a figure is reported without one.
        figure: what was measured.
        at_least: whether the figure must reach the goal (else it must stay at or below it).
    """

    name: str
    goal: float
    figure: float
    at_least: bool = True

    @property
    def passed(self) -> bool:
        """Whether the figure keeps the goal; a row without a goal passes when its figure is finite."""
        if math.isnan(self.goal):
            return math.isfinite(self.figure)
        return self.figure >= self.goal if self.at_least else self.figure <= self.goal
