from __future__ import annotations

import pytest
import torch

from difflora.training.ridge import DEFAULT_STRENGTH, fit_ridge


def _draw(people: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(people, 6, generator=generator)
    owners = torch.arange(people).repeat_interleave(3)
    x = own[owners] + 0.01 * torch.randn(len(owners), 6, generator=generator)
    truth = torch.randn(2, 6, generator=generator)
    y = own @ truth.T + 5 + noise * torch.randn(people, 2, generator=generator)
    return x, y, owners, truth


def test_a_linear_matter_is_found() -> None:
    x, y, owners, truth = _draw(40, 0.0)
    found = fit_ridge(x, y, owners)
    torch.testing.assert_close(found.weight, truth, atol=0.02, rtol=0)
    torch.testing.assert_close(found.bias, torch.full((2,), 5.0), atol=0.02, rtol=0)
    assert found.strength <= 1e-2


def test_it_is_the_closed_form_with_everyone_counting_once() -> None:
    x, y, owners, _ = _draw(12, 1.0)
    x, owners = x[5:], owners[5:]  # pictures are not spread evenly
    found = fit_ridge(x, y, owners, strength=0.3)
    share = (1 / owners.bincount(minlength=12).double())[owners]
    inputs = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    products = inputs.T @ (share[:, None] * inputs)
    penalty = 0.3 * products.diagonal()[:-1].mean() * torch.diag(torch.tensor([1.0] * 6 + [0.0]).double())
    expected = torch.linalg.solve(products + penalty, inputs.T @ (share[:, None] * y.double()[owners]))
    torch.testing.assert_close(found.weight, expected[:-1].T.float())
    torch.testing.assert_close(found.bias, expected[-1].float())


def test_noise_asks_for_a_stronger_penalty() -> None:
    x, y, owners, _ = _draw(12, 0.0)
    generator = torch.Generator().manual_seed(1)
    lost = torch.randn(y.shape, generator=generator)
    assert fit_ridge(x, lost, owners).strength > 100 * fit_ridge(x, y, owners).strength


@pytest.mark.parametrize("people", [1, 2])
def test_very_few_people(people: int) -> None:
    x, y, owners, _ = _draw(people, 0.0)
    assert fit_ridge(x, y, owners).weight.isfinite().all()


def test_the_default_keeps_a_map_its_size_where_most_is_foretold_by_nothing() -> None:
    x, y, owners, truth = _draw(40, 0.0)
    lost = 3 * torch.randn(40, 300, generator=torch.Generator().manual_seed(2))
    both = torch.cat([y, lost], dim=1)
    chosen, kept = fit_ridge(x, both, owners), fit_ridge(x, both, owners, DEFAULT_STRENGTH)
    assert chosen.strength >= 10, "the least error wants small numbers of all"
    assert chosen.weight[:2].norm() < 0.3 * truth.norm()
    torch.testing.assert_close(kept.weight[:2], truth, atol=0.3, rtol=0)
