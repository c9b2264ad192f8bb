"""What only a GPU has: graphs of CUDA, and memory for more than 2^31 elements (test_offsets.py is the counterpart)."""

# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from difflora_kernels import FlatLayout, LoraMerge, Statistics, lora_linear, weight_preserved_loss

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
BEYOND = 2**31


def replayed(work: Callable[[], tuple[Tensor, ...]], inputs: list[Tensor]) -> None:
    """Captures work on inputs, replays it on new numbers in their places, and compares with work done anew.

    Args:
        work: gives the tensors to compare; they are the graph's own, and a replay fills them.
        inputs: what work reads; filled with new numbers three times.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):  # compiles, which a capture must not
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = work()
    seen = []
    for seed in range(3):
        generator = torch.Generator("cuda").manual_seed(seed)
        with torch.no_grad():
            for tensor in inputs:
                tensor.normal_(generator=generator)
        graph.replay()
        found = [tensor.detach().clone() for tensor in captured]
        for one, other in zip(found, work(), strict=True):
            assert torch.equal(one, other)
        seen.append(found[0])
    assert not torch.equal(seen[0], seen[1]), "a replay reads the new numbers"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_wp_loss_in_a_graph(dtype: torch.dtype, factor: float) -> None:
    x, x_hat = (torch.randn(3, 100_003, device="cuda").to(dtype) for _ in range(2))
    x_hat.requires_grad_()
    weights = torch.rand(100_003, device="cuda")

    def work() -> tuple[Tensor, ...]:
        terms = weight_preserved_loss(x_hat, x, wp_weight=0.5, weights=weights)
        return (*terms, *torch.autograd.grad(factor * terms.loss, x_hat))

    replayed(work, [x, x_hat])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merge_in_a_graph(dtype: torch.dtype) -> None:
    layout = FlatLayout(((640, 640), (640, 2048), (33, 17)), 4)
    weights = [torch.randn(shape, device="cuda").to(dtype) for shape in layout.shapes]
    out = [torch.empty_like(weight) for weight in weights]
    merge = LoraMerge(weights, out, layout)
    flat = torch.randn(2, layout.size, device="cuda")
    statistics = Statistics(torch.randn(layout.size, device="cuda"), torch.rand(6, device="cuda"))

    def work() -> tuple[Tensor, ...]:
        bad = merge(flat, [0.5, -1.0], statistics)
        return (*(tensor.clone() for tensor in out), bad)

    replayed(work, [flat])


def test_linear_in_a_graph() -> None:
    index = torch.tensor([2, 0, 2], device="cuda")
    shapes = (3, 77, 640), (3, 77, 2048), (3, 4, 2048), (3, 640, 4)
    tensors = [torch.randn(shape, device="cuda", requires_grad=True) for shape in shapes]

    def work() -> tuple[Tensor, ...]:
        out = lora_linear(*tensors, index, [0.5, 1.0, -2.0])
        return (out, *torch.autograd.grad(out.sum(), tensors))

    replayed(work, tensors)


def needs_memory(size: int) -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < 1.1 * size:
        pytest.skip(f"needs {size / 1e9:.0f} GB of free memory, and the GPU has {free / 1e9:.0f}")


@pytest.mark.parametrize(("rows", "columns"), [(1, BEYOND + 1500), (3, BEYOND // 2 + 100)])
def test_wp_loss_of_more_than_32_bits(rows: int, columns: int) -> None:
    needs_memory(3 * rows * columns * 2)
    x, x_hat = (torch.zeros(rows, columns, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    x[-1, -3:] = torch.tensor([1.0, -2.0, 0.5])
    x_hat[-1, -3:] = torch.tensor([0.0, 1.0, 0.5])
    x_hat.requires_grad_()
    terms = weight_preserved_loss(x_hat, x, wp_weight=0.5, reduction="sum")
    assert terms.reconstruction.item() == 1 + 9
    assert terms.weight_preserved.item() == 1 + 2 * 3
    (grad,) = torch.autograd.grad(terms.loss, x_hat)
    assert grad[-1, -3:].tolist() == [-2 - 0.5, 2 * 3 + 0.5 * 2, 0.0]
    assert grad.count_nonzero().item() == 2


def test_merge_of_more_than_32_bits() -> None:
    shape = BEYOND // 2**15 + 16, 2**15
    needs_memory(3 * shape[0] * shape[1] * 2)
    layout = FlatLayout((shape,), 2)
    weight = torch.ones(shape, dtype=torch.bfloat16, device="cuda")
    out = torch.empty_like(weight)
    flat = torch.randn(layout.size, device="cuda")
    LoraMerge([weight], [out], layout)(flat)
    lora_B, A_transposed = layout.tensors(flat, 0)
    for rows in (slice(0, 16), slice(-16, None)):
        right = 1 + lora_B[rows].double() @ A_transposed.double().T
        torch.testing.assert_close(out[rows].double(), right, rtol=2**-8, atol=1e-4)
