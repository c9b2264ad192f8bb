from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.errors import BadImage
from difflora.identities.filter import centre, in_order, most_similar, pick


def _cloud(count: int, direction: int, spread: float, seed: int) -> Tensor:
    """Unit vectors (count, 16) around one axis."""
    noise = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))
    return F.normalize(torch.eye(16)[direction] + spread * noise, dim=1)


def test_the_pictures_least_like_the_person_are_dropped() -> None:
    own, strangers = _cloud(85, 0, 0.1, 0), _cloud(15, 3, 0.1, 1)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(2))
    embeddings = torch.cat([own, strangers])[order]
    places, cosines = most_similar(embeddings, torch.ones(100, dtype=torch.bool), 85, "anna")
    assert places.tolist() == sorted(places.tolist())
    assert set(order[places].tolist()) == set(range(85))
    assert cosines.min() > 0.7


def test_a_third_of_strangers_does_not_move_the_centre() -> None:
    own, strangers = _cloud(66, 0, 0.1, 0), _cloud(34, 3, 0.01, 1)
    found = centre(torch.cat([own, strangers]))
    assert found @ centre(own) > 0.99
    assert F.normalize(torch.cat([own, strangers]).mean(0), dim=0) @ centre(own) < 0.93


def test_pictures_without_a_face_go_first() -> None:
    embeddings = _cloud(10, 0, 0.1, 0)
    found = torch.arange(10) >= 3
    embeddings[~found] = 0
    places, cosines = most_similar(embeddings, found, 7, "anna")
    assert places.tolist() == list(range(3, 10))
    assert len(cosines) == 7
    with pytest.raises(BadImage, match=r"anna: only 7 of 10 candidates show a face, 8 are to be kept"):
        most_similar(embeddings, found, 8, "anna")


def test_one_picture_is_its_own_centre() -> None:
    one = _cloud(1, 0, 0.1, 0)
    torch.testing.assert_close(centre(one), one[0])
    assert pick(["a", "b", "c"], torch.tensor([2, 0])) == ["c", "a"]


@pytest.mark.parametrize(
    ("kept", "learnt", "shown"),
    [
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3], [4, 5]),
        ([0, 2, 3, 4, 5, 6], [0, 4, 2, 3], [5, 6]),  # 1 was dropped: the first beyond takes its place
        ([2, 3, 5, 6, 7, 8], [5, 6, 2, 3], [7, 8]),
        ([0, 1, 2, 3, 6, 7], [0, 1, 2, 3], [6, 7]),
    ],
)
def test_in_order_a_place_of_the_list_is_a_candidate_but_for_dropped_ones(
    kept: list[int], learnt: list[int], shown: list[int]
) -> None:
    one, other = in_order(torch.tensor(kept), 4)
    assert one.tolist() == learnt
    assert other.tolist() == shown
