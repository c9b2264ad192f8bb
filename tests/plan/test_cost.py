"""Counting on the meta device against sums by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflora.plan.cost import Cost, count


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(*shape, device="meta", dtype=dtype)


def test_a_linear_layer_forward_and_backward() -> None:
    layer = nn.Linear(30, 20, bias=False, device="meta")
    x = meta(7, 30).requires_grad_()
    forward = count(lambda: layer(x), layer)
    assert forward == Cost(2 * 7 * 30 * 20, 4 * 7 * (30 + 20), 4 * 30 * 20, 0, 4 * 7 * (30 + 20))
    both = count(lambda: layer(x), layer, backward=True)
    assert both.flops == 3 * forward.flops  # of input and weight
    assert both.saved == 4 * 7 * 30  # the input; weights are not kept for the backward pass
    layer.requires_grad_(False)
    assert count(lambda: layer(x), layer, backward=True).flops == 2 * forward.flops


def test_half_precision_moves_half_the_bytes() -> None:
    layer = nn.Conv2d(3, 4, 3, device="meta", dtype=torch.bfloat16)
    cost = count(lambda: layer(meta(1, 3, 10, 10, dtype=torch.bfloat16)), layer)
    assert cost.flops == 2 * 4 * 3 * 9 * 64
    assert cost.bytes == 2 * (300 + 4 * 64)


def test_attention_is_one_kernel() -> None:
    """Neither scores nor their gradient are stored or moved, and the backward pass makes them again."""
    q, k, v = (meta(2, 3, length, 8).requires_grad_() for length in (1000, 500, 500))
    nothing = nn.Identity()
    forward = count(lambda: F.scaled_dot_product_attention(q, k, v), nothing)
    product = 2 * 2 * 3 * 1000 * 500 * 8
    assert forward.flops == 2 * product
    assert forward.bytes == 4 * 2 * 3 * 8 * (1000 + 500 + 500 + 1000)
    both = count(lambda: F.scaled_dot_product_attention(q, k, v), nothing, backward=True)
    assert both.flops == 7 * product
    assert both.saved == forward.bytes


def test_what_a_batch_shares() -> None:
    cost = Cost(flops=10, bytes=100, weight_bytes=1000, saved=5, largest=3)
    assert cost.times(2, 4) == Cost(80, 800, 2000, 20, 12)
    assert cost + Cost(1, 1, 1, 9, 1) == Cost(11, 101, 1001, 9, 3)
