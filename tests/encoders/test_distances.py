from __future__ import annotations

import pytest
import torch

from difflora.encoders.distances import frechet_distance, kernel_distance
from difflora.errors import BadParameter

CROSS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # mean 0, covariance 2/3 of the identity


def test_frechet_distance_of_two_gaussians() -> None:
    moved = 2 * CROSS + torch.tensor([3.0, 0.0])  # mean (3, 0), covariance 8/3 of the identity
    assert frechet_distance(moved, CROSS) == pytest.approx(9 + 2 * ((8 / 3) ** 0.5 - (2 / 3) ** 0.5) ** 2)
    assert frechet_distance(CROSS, CROSS) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_by_hand() -> None:
    one, other = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    # (xy + 1)^3: 1 within the first, 343 within the second, 1, 1, 27 and 64 across.
    assert kernel_distance(one, other, gamma=1.0) == pytest.approx(1 + 343 - 2 * 93 / 4)
    assert kernel_distance(one, other) == kernel_distance(one, other, gamma=1.0), "1 / D of one number"


def test_kernel_distance_draws_the_same_subsets_and_leaves_the_global_generator() -> None:
    generator = torch.Generator().manual_seed(0)
    features, reference = (torch.randn(count, 4, generator=generator) for count in (30, 50))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    found = kernel_distance(features, reference)
    assert torch.equal(torch.rand(1), expected)
    assert kernel_distance(features, reference) == found
    assert abs(found) < kernel_distance(features + 1, reference)


def test_one_picture_has_no_distance() -> None:
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(BadParameter, match="1 pictures against 4: a distance needs two"):
            distance(CROSS[:1], CROSS)
