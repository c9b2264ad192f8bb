from __future__ import annotations

import pytest
import torch

from difflora.errors import BadParameter
from difflora.training.batches import Batches

NAMES = [f"p{place}" for place in range(7)]


def test_each_epoch_has_everyone_once() -> None:
    batches = Batches(NAMES, 3, seed=0)
    order = torch.cat([batches.places(step) for step in range(14)])  # six epochs of seven
    epochs = [epoch.tolist() for epoch in order.split(7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert batches.people(4) == [NAMES[place] for place in batches.places(4)]


def test_a_batch_larger_than_everyone() -> None:
    places = Batches(NAMES, 17, seed=0).places(1)
    assert len(places) == 17
    assert set(places.tolist()) == set(range(7))


def test_a_step_is_a_function_of_seed_and_step() -> None:
    one, two = Batches(NAMES, 4, seed=1), Batches(NAMES, 4, seed=1)
    expected = [
        (batch.places, batch.randn(3), batch.rand(), batch.spread(9)) for batch in map(one.__getitem__, (0, 1, 5))
    ]
    found = two[5]
    for left, right in zip(expected[2], (found.places, found.randn(3), found.rand(), found.spread(9)), strict=True):
        assert torch.equal(left, right)
    assert not torch.equal(expected[0][1], expected[1][1])
    assert not torch.equal(Batches(NAMES, 4, seed=2)[5].randn(3), expected[2][1])


def test_processes_share_out_what_one_would_draw() -> None:
    whole = Batches(NAMES, 6, seed=1)[2]
    expected = whole.my_places, whole.randn(2), whole.rand(), whole.spread(1000)
    shares = []
    for process in range(3):
        batch = Batches(NAMES, 6, seed=1, process=process, processes=3)[2]
        shares.append((batch.my_places, batch.randn(2), batch.rand(), batch.spread(1000)))
    for one, parts in zip(expected, zip(*shares, strict=True), strict=True):
        assert torch.equal(torch.cat(parts), one)


def test_spread_covers_the_range_evenly() -> None:
    drawn = Batches(NAMES, 50, seed=0)[0].spread(1000)
    assert (drawn // 20).tolist() == list(range(50))


def test_batches_that_cannot_be() -> None:
    with pytest.raises(BadParameter, match="batch_size is 4: it cannot be shared out to 3 processes"):
        Batches(NAMES, 4, seed=0, processes=3)
    with pytest.raises(BadParameter, match="nobody"):
        Batches([], 4, seed=0)
