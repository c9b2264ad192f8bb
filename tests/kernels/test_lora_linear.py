# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from difflora_kernels import FlatLayout, lora_linear, use_backend

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}
NAMES = ("base_out", "x", "lora_A", "lora_B")


def case(
    index: list[int],
    shape: tuple[int, int, int, int, int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> tuple[list[Tensor], Tensor]:
    """base_out, x, lora_A and lora_B, and the index; the shape is (K, T, n, m, r)."""
    loras, length, n, m, rank = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = (len(index), length, m), (len(index), length, n), (loras, rank, n), (loras, m, rank)
    tensors = [torch.randn(size, generator=generator).to(device, dtype).requires_grad_() for size in sizes]
    return tensors, torch.tensor(index, dtype=torch.int64, device=device)


def expected(tensors: list[Tensor], index: Tensor, scales: list[float]) -> Tensor:
    """One sample after the other, by the definition, in float64."""
    base_out, x, lora_A, lora_B = tensors
    rows = [
        base_out[i] + scales[k] * (x[i] @ lora_A[k].transpose(0, 1)) @ lora_B[k].transpose(0, 1)
        for i, k in enumerate(index.tolist())
    ]
    return torch.stack(rows)


def assert_close(name: str, found: Tensor, truth: Tensor, tolerance: float) -> None:
    scale = truth.detach().abs().max().clamp(min=1e-6)
    worst = ((found.detach().double() - truth.detach()).abs().max() / scale).item()
    assert worst <= tolerance, f"{name}: off by {worst:.2e} of its largest value, {tolerance:.0e} is allowed"


def assert_right(
    tensors: list[Tensor], index: Tensor, scale: float | list[float], tolerance: float
) -> tuple[Tensor, list[Tensor]]:
    """Value and all four gradients against float64."""
    scales = scale if isinstance(scale, list) else [scale] * len(tensors[2])
    own = lora_linear(*tensors, index, scale)
    upstream = torch.randn(own.shape, generator=torch.Generator().manual_seed(9)).to(own)
    grads = torch.autograd.grad(own, tensors, upstream)
    doubles = [tensor.detach().double().requires_grad_() for tensor in tensors]
    truth = expected(doubles, index, scales)
    assert own.dtype == tensors[0].dtype
    assert_close("y", own, truth, tolerance)
    for name, tensor, grad, right in zip(
        NAMES, tensors, grads, torch.autograd.grad(truth, doubles, upstream.double()), strict=True
    ):
        assert (grad.dtype, grad.shape) == (tensor.dtype, tensor.shape), name
        assert_close(f"gradient of {name}", grad, right, tolerance)
    return own, list(grads)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rank", [1, 4, 19])
def test_values_and_gradients(backend: str, device: torch.device, dtype: torch.dtype, rank: int) -> None:
    tensors, index = case([2, 0, 2, 3], (4, 70, 67, 33, rank), dtype, device)  # LoRA 1 has no sample
    assert_right(tensors, index, [0.7, 1.0, -1.3, 0.25], TOLERANCE[dtype])


def test_the_largest_rank_and_more_tiles_than_one(backend: str, device: torch.device) -> None:
    tensors, index = case([1, 0], (2, 130, 130, 200, 128), device=device)
    assert_right(tensors, index, 0.5, 5e-6)


@settings(max_examples=10, deadline=None)
@given(
    index=st.lists(st.integers(0, 2), max_size=4),
    shape=st.tuples(st.just(3), st.integers(0, 70), st.integers(1, 70), st.integers(1, 70), st.integers(1, 20)),
    seed=st.integers(0, 99),
)
def test_any_shape_and_index_on_both_paths(index: list[int], shape: tuple[int, int, int, int, int], seed: int) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tensors, where = case(index, shape, device=device, seed=seed)
    found = []
    for name in ("triton", "torch"):
        with use_backend(name):
            out = lora_linear(*tensors, where, [0.5, -1.0, 2.0])
            found.append([out.detach(), *torch.autograd.grad(out.square().sum(), tensors)])
    for name, one, other in zip(("y", *NAMES), *found, strict=True):
        if one.numel():
            assert_close(name, one, other.double(), 1e-5)


def test_gradcheck_of_the_reference() -> None:
    tensors, index = case([1, 0, 1], (2, 3, 4, 5, 2), torch.float64)
    with use_backend("torch"):
        assert torch.autograd.gradcheck(lambda *given: lora_linear(*given, index, [0.5, -2.0]), tensors)


def test_views_of_flat_vectors_and_more_dimensions(backend: str, device: torch.device) -> None:
    layout = FlatLayout(((24, 40), (33, 18)), 3)
    generator = torch.Generator().manual_seed(1)
    flat = torch.randn(4, layout.size, generator=generator).to(device).requires_grad_()
    x = torch.randn(5, 18, 2, 3, generator=generator).to(device).movedim(1, -1)  # (5, 2, 3, 18), strided
    base_out = torch.randn(5, 2, 3, 33, generator=generator).to(device)
    index = torch.tensor([3, 3, 1, 0, 3], device=device)
    lora_B, A_transposed = layout.tensors(flat, 1)
    own = lora_linear(base_out, x, A_transposed.transpose(1, 2), lora_B, index, 1.5)
    (grad,) = torch.autograd.grad(own.sum(), flat)
    double = flat.detach().double().requires_grad_()
    lora_B, A_transposed = layout.tensors(double, 1)
    truth = expected([base_out.double(), x.double(), A_transposed.transpose(1, 2), lora_B], index, [1.5] * 4)
    assert_close("y", own, truth, 2e-6)
    assert_close("gradient of the flat vectors", grad, torch.autograd.grad(truth.sum(), double)[0], 2e-6)
    assert not grad[:, : layout.starts[1][0]].any()
    assert not grad[2].any()


def test_mixed_dtypes_as_under_autocast(backend: str, device: torch.device) -> None:
    tensors, index = case([1, 0], (2, 9, 16, 8, 4), device=device)
    layer = torch.nn.Linear(16, 8, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        base_out = layer(tensors[1])
        own = lora_linear(base_out, *tensors[1:], index)
    assert own.dtype == torch.bfloat16
    right = expected([base_out.double(), *(tensor.double() for tensor in tensors[1:])], index, [1.0, 1.0])
    assert_close("y", own, right, 2**-7)  # the interpreter truncates
    own.float().square().sum().backward()
    assert layer.weight.grad is not None
    assert all(tensor.grad is not None and tensor.grad.dtype == torch.float32 for tensor in tensors[1:])


def test_only_what_is_asked_for_has_a_gradient(backend: str, device: torch.device) -> None:
    tensors, index = case([1, 0], (2, 9, 16, 8, 4), device=device)
    with torch.no_grad():
        assert not lora_linear(*tensors, index).requires_grad
    whole = torch.autograd.grad(lora_linear(*tensors, index).sum(), tensors)
    for place, name in enumerate(NAMES):
        given = [tensor.detach() for tensor in tensors]
        given[place].requires_grad_()
        lora_linear(*given, index).sum().backward()
        assert torch.equal(given[place].grad, whole[place]), name


def test_equal_inputs_give_equal_bits(backend: str, device: torch.device) -> None:
    tensors, index = case([0, 1, 1, 0, 1], (2, 150, 20, 30, 3), device=device)
    found = []
    for _ in range(3):
        out = lora_linear(*tensors, index)
        found.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_a_person_is_not_touched_by_anothers_nan(backend: str, device: torch.device) -> None:
    tensors, index = case([0, 1, 0], (2, 9, 16, 8, 4), device=device)
    with torch.no_grad():
        tensors[3][1] = torch.nan
    out = lora_linear(*tensors, index)
    _, grad_x, grad_A, grad_B = torch.autograd.grad(out.sum(), tensors)
    assert out[1].isnan().all()
    for found in (out[::2], grad_x[::2], grad_A[0], grad_B[0]):
        assert found.isfinite().all()


def test_split_rows_and_columns(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What many multiprocessors would be given, on any device."""
    from difflora_kernels.lora_linear import launch

    tensors, index = case([1, 0, 1], (2, 200, 70, 150, 5), device=device)
    with use_backend("triton"):
        for programs in (1, 64):
            monkeypatch.setattr(launch, "CONFIG", launch.LaunchConfig(programs=programs))
            monkeypatch.setattr(launch, "processors", lambda device: 1)
            assert (launch.CONFIG.parts(12, 3, device) > 1) == (programs == 64)
            assert_right(tensors, index, 0.5, 5e-6)


@pytest.mark.parametrize("dynamic", [False, True])
def test_no_graph_break(backend: str, device: torch.device, dynamic: bool) -> None:
    tensors, index = case([1, 0, 1], (2, 9, 16, 8, 4), device=device)
    torch._dynamo.reset()
    compiled = torch.compile(lora_linear, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    own, right = compiled(*tensors, index, 0.5), lora_linear(*tensors, index, 0.5)
    assert torch.equal(own, right)
    found, truth = (torch.autograd.grad(out.square().sum(), tensors) for out in (own, right))
    for name, one, other in zip(NAMES, found, truth, strict=True):
        assert torch.equal(one, other), name


def test_the_operator_is_what_it_says(backend: str, device: torch.device) -> None:
    tensors, index = case([1, 0, 1], (2, 9, 16, 8, 4), device=device)
    scales = torch.ones(2, device=device)
    torch.library.opcheck(torch.ops.difflora_kernels.lora_linear.default, (*tensors, index, scales))


def test_the_interpreter_or_the_gpu_really_runs_the_kernels(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from difflora_kernels.lora_linear import launch

    tensors, index = case([1, 0], (2, 9, 16, 8, 4), device=device)
    with use_backend("triton"):
        out = lora_linear(*tensors, index)
        monkeypatch.setattr(launch, "lora_grad_kernel", None)
        with pytest.raises(TypeError):
            out.sum().backward()
        monkeypatch.setattr(launch, "lora_product_kernel", None)
        with pytest.raises(TypeError):
            lora_linear(*tensors, index)
    with use_backend("torch"):
        lora_linear(*tensors, index).sum().backward()


def test_a_lora_that_is_not_there(device: torch.device) -> None:
    tensors, index = case([0, 2, -1], (2, 9, 16, 8, 4), device=device)
    if device.type == "cpu":
        with pytest.raises(ValueError, match="from -1 to 2, and there are 2 LoRAs"):
            lora_linear(*tensors, index)
    from difflora_kernels.lora_linear import launch  # a GPU's index is not looked at

    scales = torch.ones(2, device=device)
    with torch.no_grad():
        out, low = launch.forward(*tensors, index, scales)
        grads = launch.backward(torch.ones_like(out), *tensors[1:2], low, *tensors[2:], index, scales, True)
    assert out[0].isfinite().all()
    assert out[1:].isnan().all()
    assert all(grad is not None and grad[0].isfinite().all() for grad in grads)
    assert grads[1] is not None
    assert not grads[1][1].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(2, 4, 5)}, r"x \(2, 4, 5\)"),
        ({"lora_A": torch.ones(2, 4, 6)}, r"lora_A is \(2, 4, 6\); it must be \(K, r, 5\)"),
        ({"lora_B": torch.ones(2, 7, 3)}, r"lora_B is \(2, 7, 3\); it must be \(2, 7, 4\)"),
        ({"lora_A": torch.ones(2, 129, 5), "lora_B": torch.ones(2, 7, 129)}, "rank is 129; it must be 1 to 128"),
        ({"index": torch.zeros(3)}, "index is torch.float32"),
        ({"index": torch.tensor([0, 1])}, r"it must be int64, \(3,\)"),
        ({"index": torch.tensor([0, 1, 2])}, "from 0 to 2"),
        ({"x": torch.ones(3, 4, 5).int()}, "x is torch.int32"),
        ({"lora_B": torch.ones(2, 7, 4, device="meta")}, "lora_B is on meta and x on cpu"),
        ({"scale": torch.nan}, "finite"),
        ({"scale": [1.0, 2.0, 3.0]}, "3 scales for 2 LoRAs"),
        ({"scale": torch.ones(3)}, r"scale is \(3,\) for 2 LoRAs"),
        ({"scale": torch.ones(2, requires_grad=True)}, "scale requires a gradient"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "base_out": torch.ones(3, 4, 7),
        "x": torch.ones(3, 4, 5),
        "lora_A": torch.ones(2, 4, 5),
        "lora_B": torch.ones(2, 7, 4),
        "index": torch.tensor([0, 1, 1]),
    }
    with pytest.raises(ValueError, match=message):
        lora_linear(**given | change)


def test_no_second_derivative(device: torch.device) -> None:
    tensors, index = case([1, 0], (2, 9, 16, 8, 4), device=device)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(lora_linear(*tensors, index).sum(), tensors, create_graph=True)
