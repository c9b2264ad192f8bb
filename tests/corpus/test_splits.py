from __future__ import annotations

import pytest
from pydantic import ValidationError

from difflora.corpus.splits import SplitSettings, split_of

KNOWN = ["test", "train", "test", "test", "train", "train", "test", "train", "train", "train", "test", "train"]
SETTINGS = SplitSettings(validation=0.1, test=0.2)


def test_shares_come_out_and_stay_with_the_person() -> None:
    splits = {f"person-{i}": split_of(f"person-{i}", SETTINGS) for i in range(4000)}
    counts = {name: list(splits.values()).count(name) / 4000 for name in ("train", "validation", "test")}
    assert counts["test"] == pytest.approx(0.2, abs=0.02)
    assert counts["validation"] == pytest.approx(0.1, abs=0.02)
    assert {name: split_of(name, SETTINGS) for name in reversed(splits)} == splits


def test_known_people_never_move() -> None:
    """A change of these would leak held-out people into the training of every stored corpus."""
    assert [split_of(f"rendered-0-{i:06d}", SplitSettings()) for i in range(12)] == KNOWN


def test_a_larger_validation_share_takes_no_test_people() -> None:
    larger = SplitSettings(validation=0.4, test=0.2)
    for name in map(str, range(500)):
        assert (split_of(name, SETTINGS) == "test") == (split_of(name, larger) == "test")


def test_bad_shares_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than everyone"):
        SplitSettings(validation=0.6, test=0.5)
