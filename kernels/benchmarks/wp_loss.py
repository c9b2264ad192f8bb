"""WP loss: value and gradient of a batch of flat SDXL LoRAs, against torch eager and torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from timing import Result, copy_rate, measure, result, rotations
from torch import Tensor

from difflora_kernels import use_backend, weight_preserved_loss

SDXL_PER_RANK = 1_451_520
"""Numbers of a LoRA of rank 1 on all attention matrices of SDXL."""

Loss = Callable[[Tensor, Tensor], Tensor]


def eager(x_hat: Tensor, x: Tensor) -> Tensor:
    """The loss as one writes it."""
    difference = x - x_hat
    return difference.square().mean(dtype=torch.float32) + (x.abs() * difference.abs()).mean(dtype=torch.float32)


def ours(x_hat: Tensor, x: Tensor) -> Tensor:
    """The fused loss."""
    return weight_preserved_loss(x_hat, x).loss


def reference(x_hat: Tensor, x: Tensor) -> Tensor:
    """The fused loss in plain torch."""
    with use_backend("torch"):
        return weight_preserved_loss(x_hat, x).loss


def run(
    device: torch.device, batches: Sequence[int], ranks: Sequence[int], dtypes: Sequence[torch.dtype], seconds: float
) -> Iterator[Result]:
    """A row for each method and case."""
    methods: dict[str, Loss] = {"eager": eager, "torch.compile": torch.compile(eager, dynamic=False), "fused": ours}
    if device.type == "cpu":
        methods["fused, plain torch"] = reference
    for batch in batches:
        for rank in ranks:
            for dtype in dtypes:
                torch._dynamo.reset()
                yield from _case(methods, batch, rank, dtype, device, seconds)


def _case(
    methods: dict[str, Loss], batch: int, rank: int, dtype: torch.dtype, device: torch.device, seconds: float
) -> Iterator[Result]:
    shape = batch, SDXL_PER_RANK * rank
    size = 3 * batch * SDXL_PER_RANK * rank * dtype.itemsize  # x and x_hat are read, the gradient is written
    pairs = []
    for _ in range(rotations(size, device)):
        x = torch.randn(shape, device=device).mul_(0.02).to(dtype)
        pairs.append(((x + 0.01 * torch.randn_like(x)).requires_grad_(), x))
    copy = copy_rate(size, device, seconds)
    case = f"batch {batch}, rank {rank}, {str(dtype).removeprefix('torch.')}"
    for name, loss in methods.items():
        calls = [lambda pair=pair, loss=loss: _step(loss, *pair) for pair in pairs]
        yield result("wp_loss", case, name, measure(calls, device, seconds), size, copy, device)


def _step(loss: Loss, x_hat: Tensor, x: Tensor) -> None:
    """Value and gradient; the gradient's memory goes back to the allocator as in a training step."""
    loss(x_hat, x).backward()
    x_hat.grad = None
