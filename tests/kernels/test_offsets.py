"""More than 2^31 elements: the last program of each launch, on memory that is hardly touched.

Large tensors are never written but where that program reads, so that they cost addresses and little memory. An offset
that does not fit 32 bits would be read elsewhere.
"""

# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("Triton compiles where there is a GPU, and test_gpu.py goes over the whole", allow_module_level=True)

import triton.language as tl
from triton.runtime import interpreter

from difflora_kernels.lora_linear import launch as lora_linear
from difflora_kernels.lora_merge import launch as lora_merge
from difflora_kernels.lora_merge.layout import FlatLayout, Statistics
from difflora_kernels.wp_loss import launch as wp_loss
from difflora_kernels.wp_loss.problem import Problem

BEYOND = 2**31
CONFIG = lora_merge.CONFIG
GENERATOR = torch.Generator().manual_seed(1)


class LastProgram:
    """Stands for a kernel: a launch runs its last program alone; keeps what it was launched with."""

    def __init__(self, kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel, self.monkeypatch = kernel, monkeypatch
        self.arguments: tuple[Any, ...] = ()

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **options: Any) -> None:
            self.arguments = arguments
            with self.monkeypatch.context() as patch:
                builder = interpreter.interpreter_builder
                patch.setattr(builder, "create_get_program_id", lambda axis: _int32(grid[axis] - 1))
                patch.setattr(builder, "create_get_num_programs", lambda axis: _int32(grid[axis]))
                # On a CPU what a kernel wrote is in place; to copy it back would touch all of it.
                patch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *_: None)
                self.kernel[(1,)](*arguments, **options)

        return launch


def _int32(value: int) -> Any:
    return interpreter.TensorHandle(np.array([value], dtype=np.int32), tl.int32)


def untouched(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    try:
        return torch.empty(*shape, dtype=dtype)
    except RuntimeError as error:
        pytest.skip(f"no addresses for {shape}: {error}")


@pytest.mark.parametrize(("rows", "columns"), [(1, BEYOND + 1500), (3, BEYOND // 2 + 100)])
def test_wp_loss(monkeypatch: pytest.MonkeyPatch, rows: int, columns: int) -> None:
    kernel = LastProgram(wp_loss.wp_loss_kernel, monkeypatch)
    monkeypatch.setattr(wp_loss, "wp_loss_kernel", kernel)
    monkeypatch.setattr(wp_loss, "finish_kernel", defaultdict(lambda: lambda *_, **__: None))
    monkeypatch.setattr(wp_loss, "CONFIG", wp_loss.LaunchConfig(programs=2 * BEYOND))  # one for each block
    block = slice((columns - 1) // wp_loss.CONFIG.block * wp_loss.CONFIG.block, columns)
    x, x_hat, weights = untouched(rows, columns), untouched(rows, columns), untouched(columns)
    for tensor in (x[-1], x_hat[-1], weights):
        tensor[block] = torch.rand(len(tensor[block]), generator=GENERATOR).half()
    problem = Problem.of(x.shape, weights.shape, 0.5, "mse", "sum")
    *_, grad = wp_loss.forward(x_hat, x, weights, None, True, problem)
    assert problem.numel > BEYOND
    right, given, factor = (tensor[block].float() for tensor in (x[-1], x_hat[-1], weights))
    difference = given - right
    assert grad is not None
    slope = factor * (2 * difference + 0.5 * right * difference.sign())
    torch.testing.assert_close(grad[-1, block], slope.half())
    torch.testing.assert_close(kernel.arguments[6][0, -1], (factor * difference**2).sum())


def test_factor_of_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wp_loss, "scale_kernel", LastProgram(wp_loss.scale_kernel, monkeypatch))
    monkeypatch.setattr(wp_loss, "CONFIG", wp_loss.LaunchConfig(programs=2 * BEYOND))
    grad = untouched(3, BEYOND // 2 + 100)
    grad[-1, -100:] = 3.0
    wp_loss.scale_(grad, torch.tensor([1.0, 1.0, 2.0]))
    assert (grad[-1, -100:] == 6.0).all()


def test_merge_of_a_huge_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_merge, "lora_merge_kernel", LastProgram(lora_merge.lora_merge_kernel, monkeypatch))
    rows, columns = 16, CONFIG.block_n  # of the last tile
    shape = BEYOND // 2**15 + rows, 2**15
    layout = FlatLayout((shape,), 2)
    weight, out = untouched(*shape), untouched(*shape)
    weight[-rows:, -columns:] = torch.randn(rows, columns, generator=GENERATOR).half()
    flat = torch.randn(1, layout.size, generator=GENERATOR)
    merge = lora_merge.KernelMerge([weight], [out], layout, [0])
    merge(flat, torch.ones(1), Statistics(), torch.zeros(1, dtype=torch.int32))
    lora_B, A_transposed = layout.tensors(flat[0], 0)
    right = weight[-rows:, -columns:].float() + lora_B[-rows:] @ A_transposed[-columns:].T
    torch.testing.assert_close(out[-rows:, -columns:], right.half(), rtol=1e-3, atol=1e-3)


def test_merge_of_loras_that_are_huge_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_merge, "lora_merge_kernel", LastProgram(lora_merge.lora_merge_kernel, monkeypatch))
    layout = FlatLayout(((2**23, 8),), 128)
    weight, out, flat = untouched(2**23, 8), untouched(2**23, 8), untouched(3, layout.size)
    assert layout.size < BEYOND < flat.numel()
    rows = CONFIG.rows
    weight[-rows:] = 0.0
    lora_B, A_transposed = layout.tensors(flat, 0)
    for part in (lora_B[:, -rows:], A_transposed):
        part.copy_(torch.randn(part.shape, generator=GENERATOR) / 16)
    merge = lora_merge.KernelMerge([weight], [out], layout, [0])
    merge(flat, torch.tensor([1.0, -2.0, 0.5]), Statistics(), torch.zeros(1, dtype=torch.int32))
    products = lora_B[:, -rows:].float() @ A_transposed.float().transpose(1, 2)
    right = products[0] - 2.0 * products[1] + 0.5 * products[2]
    torch.testing.assert_close(out[-rows:].float(), right, rtol=2e-3, atol=2e-3)


def test_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lora_product_kernel", "lora_grad_kernel"):
        monkeypatch.setattr(lora_linear, name, LastProgram(getattr(lora_linear, name), monkeypatch))
    length, n, m, rank = BEYOND // 2**11, 1024, 16, 2
    rows = lora_linear.CONFIG.block_t  # of the last tile
    x, base_out = untouched(3, length, n), untouched(3, length, m)
    lora_A, lora_B = (torch.randn(1, *each, generator=GENERATOR).half() / 16 for each in ((rank, n), (m, rank)))
    for tensor in (x, base_out):
        part = tensor[-1, -rows:]
        part.copy_(torch.randn(part.shape, generator=GENERATOR))
    index, scales = torch.zeros(3, dtype=torch.int64), torch.ones(1)
    out, low = lora_linear.forward(base_out, x, lora_A, lora_B, index, scales)
    assert x.numel() > BEYOND
    inside, down, up = x[-1, -rows:].float(), lora_A[0].float(), lora_B[0].float()
    torch.testing.assert_close(low[-1, -rows:], inside @ down.T, rtol=1e-4, atol=1e-4)
    right = base_out[-1, -rows:].float() + inside @ down.T @ up.T
    torch.testing.assert_close(out[-1, -rows:].float(), right, rtol=2e-3, atol=2e-3)

    class Kept(Exception):
        """Raised before all partial sums are added."""

    def keep(scales: Tensor, partials: Tensor) -> None:
        raise Kept(partials[-1, 0])

    monkeypatch.setattr(lora_linear, "CONFIG", lora_linear.LaunchConfig(programs=2 * BEYOND))  # a tile to a part
    monkeypatch.setattr(lora_linear, "add_parts", keep)
    with pytest.raises(Kept) as kept:
        lora_linear.factor_gradient(x, low, torch.arange(3), torch.tensor([0, 3]), scales)
    columns = slice(-lora_linear.CONFIG.block_c, None)
    right = inside[:, columns].T @ low[-1, -rows:]
    torch.testing.assert_close(kept.value.args[0][columns], right, rtol=1e-4, atol=1e-3)


def test_linear_with_loras_that_lie_far_apart() -> None:
    layout = FlatLayout(((BEYOND // 4, 8), (5, 7)), 2)
    flat = untouched(3, layout.size)
    assert layout.size < BEYOND < 2 * layout.size
    lora_B, A_transposed = layout.tensors(flat, 1)
    for part in (lora_B, A_transposed):
        part.copy_(torch.randn(part.shape, generator=GENERATOR))
    x, base_out = torch.randn(1, 4, 7, generator=GENERATOR), torch.zeros(1, 4, 5)
    loras = A_transposed.transpose(1, 2), lora_B
    out, _ = lora_linear.forward(base_out, x, *loras, torch.tensor([2]), torch.ones(3))
    torch.testing.assert_close(out[0], x[0] @ A_transposed[2].float() @ lora_B[2].float().T, rtol=1e-4, atol=1e-4)
