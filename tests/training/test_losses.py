from __future__ import annotations

from typing import Any

import pytest
import torch

from difflora.training.losses import weight_preserved_loss

X, X_HAT = torch.tensor([[2.0, -1.0, 0.0, 0.5]]), torch.tensor([[1.0, -1.5, 4.0, 0.5]])


@pytest.mark.parametrize(
    ("wp_weight", "reconstruction", "expected"),
    [
        (0.0, "mse", (1 + 0.25 + 16) / 4),
        (0.0, "l1", (1 + 0.5 + 4) / 4),
        (1.0, "mse", (1 + 0.25 + 16) / 4 + (2 * 1 + 1 * 0.5 + 0 * 4) / 4),
        (0.5, "l1", (1 + 0.5 + 4) / 4 + 0.5 * (2 * 1 + 1 * 0.5 + 0 * 4) / 4),
    ],
)
def test_equation_2_by_hand(wp_weight: float, reconstruction: Any, expected: float) -> None:
    terms = weight_preserved_loss(X_HAT, X, wp_weight=wp_weight, reconstruction=reconstruction)
    assert float(terms.loss) == pytest.approx(expected)
    assert float(terms.weight_preserved) == pytest.approx((2 * 1 + 1 * 0.5 + 0 * 4) / 4)
    assert float(terms.reconstruction) == pytest.approx(expected - wp_weight * float(terms.weight_preserved))


def test_gradient_is_zero_where_the_reconstruction_is_right() -> None:
    x_hat = X_HAT.clone().requires_grad_()
    weight_preserved_loss(x_hat, X, wp_weight=2.0).loss.backward()
    expected = torch.tensor([[2 * -1 - 2 * 2.0, 2 * -0.5 - 2 * 1.0, 2 * 4.0 + 0.0, 0.0]]) / 4
    torch.testing.assert_close(x_hat.grad, expected)
