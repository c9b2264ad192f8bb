"""Muon: momentum whose update is orthogonalised, for the matrices and convolutions of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# The first steps of the Polar Express iteration (arXiv 2505.16932): optimal odd quintics, applied one after another.
_COEFFICIENTS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: large singular values come between 0.7 and 2, tiny ones grow.

    Args:
        matrices: (K, M, N) float32.

    Returns:
        (K, M, N) float32.
    """
    x = matrices / (1.01 * matrices.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for a, b, c in _COEFFICIENTS:
        gram = x @ x.mT  # (K, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum in float32 (torch's own takes matrices alone and iterates in bfloat16: slow here).

    A convolution's weight (O, I, H, W) counts as the matrix (O, I * H * W). Weights of one shape are orthogonalised
    together.

    Args:
        params: weights of two dimensions or more.
        lr: length of an update, as the root of the ratio of rows to columns where that is above 1, else 1.
        momentum: of the running mean of gradients.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients that the weights hold."""
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault((weight.shape[0], weight[0].numel()), []).append(weight)
            for shape, weights in shapes.items():
                self._update(shape, weights, group)

    def _update(self, shape: tuple[int, ...], weights: list[Tensor], group: dict[str, Any]) -> None:
        updates = []
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros(shape)
            gradient = weight.grad.reshape(shape)  # type: ignore[union-attr]
            state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
            updates.append(gradient.lerp(state["momentum_buffer"], group["momentum"]))
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        for weight, update in zip(weights, orthogonalise(torch.stack(updates)), strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update.reshape(weight.shape), alpha=-group["lr"] * scale)
