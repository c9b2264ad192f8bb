"""The autoencoder's loss: reconstruction, and weight preservation (paper, equation 2)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor


class LossTerms(NamedTuple):
    """A loss and its parts; the parts are for logs and carry no gradient.

    Attributes:
        loss: ``reconstruction + wp_weight * weight_preserved``.
        reconstruction: mean squared or mean absolute difference.
        weight_preserved: equation 2.
    """

    loss: Tensor
    reconstruction: Tensor
    weight_preserved: Tensor


def weight_preserved_loss(
    x_hat: Tensor, x: Tensor, *, wp_weight: float = 1.0, reconstruction: Literal["mse", "l1"] = "mse"
) -> LossTerms:
    """``reconstruction(x_hat, x) + wp_weight * mean(|x| |x - x_hat|)``.

    Args:
        x_hat: (..., D) what was reconstructed.
        x: (..., D) what it should be; no gradient flows to it.
        wp_weight: the second term's factor; 0 for none.
        reconstruction: mean squared or mean absolute error.

    Returns:
        Three scalars.
    """
    x = x.detach()
    first = F.mse_loss(x_hat, x) if reconstruction == "mse" else F.l1_loss(x_hat, x)
    second = (x.abs() * (x - x_hat).abs()).mean()
    return LossTerms(first + wp_weight * second, first.detach(), second.detach())
