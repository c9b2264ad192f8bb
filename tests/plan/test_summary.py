from __future__ import annotations

import pytest

from difflora.plan.summary import _hours


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (0.4, "24 minutes"),
        (0.983, "59 minutes"),
        (1.0, "1 hour"),
        (1.04, "1 hour"),
        (1.06, "1.1 hours"),
        (123456, "120,000 hours"),
    ],
)
def test_hours_in_words(hours: float, said: str) -> None:
    assert _hours(hours) == said
