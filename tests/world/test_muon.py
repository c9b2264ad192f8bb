from __future__ import annotations

import pytest
import torch
from torch import nn

from difflora.world.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 24, 24)])
def test_singular_values_come_near_each_other(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalise(matrices)
    assert result.shape == shape
    values = torch.linalg.svdvals(result)
    assert values.max() < 2.0
    assert values.median() > 0.8
    # The directions stay: the update points the way of the gradient.
    assert (result * matrices).sum() > 0


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 16, 16)), torch.zeros(1, 16, 16))


def test_it_fits_a_matrix_and_a_convolution() -> None:
    generator = torch.Generator().manual_seed(1)
    layer = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.1)
    goal = nn.Conv2d(16, 16, 3, padding=1, bias=False).requires_grad_(False)
    goal.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.1)
    optimizer = Muon(layer.parameters(), lr=0.05)
    losses = []
    for i in range(60):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - i / 60)
        x = torch.randn(4, 16, 8, 8, generator=generator)
        loss = (layer(x) - goal(x)).pow(2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_weights_of_one_shape_are_updated_as_if_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    start = [torch.randn(16, 24, generator=generator) for _ in range(2)]
    gradients = [torch.randn(16, 24, generator=generator) for _ in range(2)]

    def updated(which: list[int]) -> list[torch.Tensor]:
        weights = [nn.Parameter(start[i].clone()) for i in which]
        for weight, i in zip(weights, which, strict=True):
            weight.grad = gradients[i].clone()
        Muon(weights, lr=0.1).step()
        return [weight.detach() for weight in weights]

    together = updated([0, 1])
    torch.testing.assert_close(together[0], updated([0])[0])
    torch.testing.assert_close(together[1], updated([1])[0])
