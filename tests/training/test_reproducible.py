from __future__ import annotations

import torch
from torch import nn

from difflora.training.reproducible import seeded, weights_digest


def test_seeded_modules_are_the_same_and_the_global_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(0):
        one = nn.Linear(3, 2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(0):
        two = nn.Linear(3, 2)
    assert torch.equal(one.weight, two.weight)
    assert weights_digest(one) == weights_digest(two)


def test_digest_sees_numbers_names_and_types() -> None:
    with seeded(0):
        layer = nn.Linear(3, 2)
    before = weights_digest(layer)
    assert weights_digest(nn.ModuleDict({"a": layer})) != before
    assert weights_digest(layer.bfloat16()) != before
    with seeded(0):
        layer = nn.Linear(3, 2)
    layer.bias.data[1] += 1e-6
    assert weights_digest(layer) != before
