"""Linear layers with many LoRAs: forward and backward at SDXL's four attention shapes, against torch's bmm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from timing import Result, copy_rate, measure, result, rotations
from torch import Tensor

from difflora_kernels import lora_linear, use_backend

SHAPES = ((640, 640, 4096), (640, 2048, 77), (1280, 1280, 1024), (1280, 2048, 77))
"""(out, in, tokens) of SDXL's attention at 1024 px: the inputs of 2048 are the prompt's."""
SAMPLES = 2
"""Samples of each person, side by side."""

Linear = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def ours(base_out: Tensor, x: Tensor, lora_a: Tensor, lora_b: Tensor, index: Tensor) -> Tensor:
    """The grouped kernel on a GPU; on a CPU its reference."""
    return lora_linear(base_out, x, lora_a, lora_b, index, 0.5)


def reference(base_out: Tensor, x: Tensor, lora_a: Tensor, lora_b: Tensor, index: Tensor) -> Tensor:
    """Each sample's A and B gathered, then bmm."""
    with use_backend("torch"):
        return lora_linear(base_out, x, lora_a, lora_b, index, 0.5)


def consecutive(base_out: Tensor, x: Tensor, lora_a: Tensor, lora_b: Tensor, index: Tensor) -> Tensor:
    """The bmm of corpus training: a person's samples lie side by side, and nothing is gathered."""
    rows, base = (each.reshape(len(lora_a), -1, each.shape[-1]) for each in (x, base_out))
    low = torch.bmm(rows, lora_a.transpose(1, 2))
    return torch.baddbmm(base, low, lora_b.transpose(1, 2), alpha=0.5).view(base_out.shape)


def run(
    device: torch.device, people: Sequence[int], ranks: Sequence[int], dtypes: Sequence[torch.dtype], seconds: float
) -> Iterator[Result]:
    """A row for each method and case."""
    methods: dict[str, Linear] = {"bmm, consecutive": consecutive}
    if device.type == "cuda":
        methods |= {"bmm, gathered": reference, "grouped kernel": ours}
    else:
        methods["lora_linear, plain torch"] = ours
    for dtype in dtypes:
        for shape in SHAPES:
            for count in people:
                for rank in ranks:
                    yield from _case(methods, shape, count, rank, dtype, device, seconds)


def _case(
    methods: dict[str, Linear],
    shape: tuple[int, int, int],
    people: int,
    rank: int,
    dtype: torch.dtype,
    device: torch.device,
    seconds: float,
) -> Iterator[Result]:
    m, n, tokens = shape
    samples = people * SAMPLES
    # Forward: x and base_out are read and y is written. Backward: y's gradient and x are read, x's gradient written.
    size = samples * tokens * (3 * n + 3 * m) * dtype.itemsize
    index = torch.arange(people, device=device).repeat_interleave(SAMPLES)
    sets = []
    for _ in range(rotations(size, device)):
        given = [
            torch.randn(each, device=device).to(dtype).requires_grad_()
            for each in ((samples, tokens, m), (samples, tokens, n), (people, rank, n), (people, m, rank))
        ]
        sets.append((given, torch.randn(samples, tokens, m, device=device).to(dtype)))
    copy = copy_rate(size, device, seconds)
    case = f"{m}x{n}, {people} people, rank {rank}, {str(dtype).removeprefix('torch.')}"
    for name, method in methods.items():
        calls = [lambda given=given, up=up, method=method: _step(method, given, index, up) for given, up in sets]
        yield result("lora_linear", case, name, measure(calls, device, seconds), size, copy, device)


def _step(method: Linear, given: list[Tensor], index: Tensor, upstream: Tensor) -> None:
    """Value and all gradients; their memory goes back to the allocator."""
    torch.autograd.grad(method(*given, index), given, upstream)
