from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from difflora_kernels import FlatLayout, LoraMerge, Statistics, merge_lora, use_backend

SHAPES = ((32, 48), (17, 5), (64, 33), (1, 70))
EPS = {torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}
TRUNCATED = 2
"""Triton's interpreter cuts float32 off to bfloat16 where a GPU rounds to nearest: twice the error."""


def weights_of(dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(m, n, generator=generator).to(device, dtype) for m, n in SHAPES]


def expected(weights: list[Tensor], flat: Tensor, layout: FlatLayout, scales: list[float]) -> list[Tensor]:
    """W + sum of scale B A, in float64."""
    merged = []
    for index, weight in enumerate(weights):
        total = weight.double()
        for row, scale in zip(flat.double().reshape(-1, layout.size), scales, strict=True):
            b, a_transposed = layout.tensors(row, index)
            total = total + scale * b @ a_transposed.T
        merged.append(total)
    return merged


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("rank", [1, 4, 19, 128])
@pytest.mark.parametrize("loras", [1, 3])
def test_merged_to_one_rounding(backend: str, device: torch.device, dtype: torch.dtype, rank: int, loras: int) -> None:
    layout = FlatLayout(SHAPES, rank)
    flat = torch.randn(loras, layout.size, generator=torch.Generator().manual_seed(2)).to(device) * 0.2
    weights = weights_of(dtype, device)
    before, out = [w.clone() for w in weights], [torch.empty_like(w) for w in weights]
    scales = [0.7, -1.3, 0.2][:loras]
    bad = LoraMerge(weights, out, layout)(flat, scales)
    assert not bad.any()
    for index, (own, right) in enumerate(zip(out, expected(weights, flat, layout, scales), strict=True)):
        truncated = dtype is torch.bfloat16 and backend == "triton" and device.type == "cpu"
        allowed = right.abs() * EPS[dtype] * (TRUNCATED if truncated else 1) + 1e-5
        assert ((own.double() - right).abs() <= allowed).all(), f"matrix {index}"
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))


def test_both_paths_agree_through_half_precision_and_statistics(device: torch.device) -> None:
    layout = FlatLayout(SHAPES, 4)
    generator = torch.Generator().manual_seed(4)
    flat = torch.randn(layout.size, generator=generator).to(device, torch.float16)
    for count in (layout.size, 2 * len(SHAPES)):
        statistics = Statistics(
            torch.randn(count, generator=generator).to(device) * 0.1, torch.rand(count, generator=generator).to(device)
        )
        found = []
        for name in ("triton", "torch"):
            weights = weights_of(torch.float32, device)
            out = [torch.empty_like(w) for w in weights]
            with use_backend(name):
                LoraMerge(weights, out, layout)(flat, 0.5, statistics)
            found.append(out)
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_thousand_persons_leave_no_trace(backend: str, device: torch.device) -> None:
    layout = FlatLayout(SHAPES[1:2], 2)
    weights = [weights_of(torch.bfloat16, device)[1]]
    pristine, out = weights[0].clone(), [torch.empty_like(weights[0])]
    merge = LoraMerge(weights, out, layout)
    flats = torch.randn(4, layout.size, generator=torch.Generator().manual_seed(3)).to(device)
    merge(flats[0])
    first = out[0].clone()
    for turn in range(1000 if backend == "torch" else 40):  # the interpreter takes its time
        merge(flats[turn % 4])
    merge(flats[0])
    assert torch.equal(weights[0], pristine)
    assert torch.equal(out[0], first)


def test_in_place_and_convolutions(backend: str, device: torch.device) -> None:
    layout = FlatLayout(((8, 12), (6, 18)), 2)
    weights = [torch.zeros(8, 12, 1, 1, device=device), torch.zeros(6, 2, 3, 3, device=device)]
    flat = torch.randn(layout.size, generator=torch.Generator().manual_seed(5)).to(device)
    merged, _ = expected([w.flatten(1) for w in weights], flat, layout, [2.0]), None
    LoraMerge(weights, weights, layout)(flat, 2.0)
    for own, right in zip(weights, merged, strict=True):
        torch.testing.assert_close(own.flatten(1).double(), right, rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_is_found_by_matrix(backend: str, device: torch.device) -> None:
    layout = FlatLayout(SHAPES, 2)
    weights = weights_of(torch.float32, device)
    flat = torch.zeros(layout.size, device=device)
    flat[layout.starts[2][0]] = float("nan")
    flat[layout.starts[2][1]] = 1.0
    bad = LoraMerge(weights, [torch.empty_like(w) for w in weights], layout)(flat)
    assert bad.tolist() == [False, False, True, False]


@pytest.mark.parametrize(("dtype", "most", "half"), [(torch.float16, 65504.0, 16.0), (torch.bfloat16, 2.0**127, 0.0)])
def test_what_rounds_to_infinity_is_found(
    backend: str, device: torch.device, dtype: torch.dtype, most: float, half: float
) -> None:
    layout = FlatLayout(((4, 8), (4, 8)), 1)
    weights = [torch.full((4, 8), most, device=device, dtype=dtype) for _ in range(2)]
    flat = torch.zeros(layout.size, device=device)
    for place, (start_b, start_a) in enumerate(layout.starts):
        flat[start_b : start_b + 4] = 1.0
        flat[start_a : start_a + 8] = (half - 1 if half else 0.0) if place == 0 else (half or 2.0**127)
    out = [torch.empty_like(weight) for weight in weights]
    assert LoraMerge(weights, out, layout)(flat).tolist() == [False, True]
    assert out[0].isfinite().all()
    assert not out[1].isfinite().any()


def test_what_does_not_fit_is_named(device: torch.device) -> None:
    layout = FlatLayout(SHAPES, 2)
    weights = weights_of(torch.float32, device)
    merge = LoraMerge(weights, weights, layout)
    with pytest.raises(ValueError, match=str(layout.size)):
        merge(torch.zeros(3, device=device))
    with pytest.raises(ValueError, match="finite"):
        merge(torch.zeros(layout.size, device=device), float("nan"))
    with pytest.raises(ValueError, match="3 weights"):
        LoraMerge(weights[:3], weights[:3], layout)
    with pytest.raises(ValueError, match="requires a gradient"):
        merge_lora(weights, torch.zeros(layout.size, device=device, requires_grad=True), layout)


def test_the_function_makes_new_tensors_and_raises_for_what_is_not_finite(backend: str, device: torch.device) -> None:
    layout = FlatLayout(SHAPES, 2)
    weights = weights_of(torch.float32, device)
    before = [weight.clone() for weight in weights]
    flat = torch.randn(layout.size, generator=torch.Generator().manual_seed(7)).to(device)
    for own, right in zip(merge_lora(weights, flat, layout, 0.5), expected(weights, flat, layout, [0.5]), strict=True):
        torch.testing.assert_close(own.double(), right, rtol=1e-5, atol=1e-5)
    flat[0] = float("inf")
    with pytest.raises(FloatingPointError, match="1 matrices are not finite, first of matrix 0"):
        merge_lora(weights, flat, layout)
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))


@pytest.mark.parametrize("place", ["weight", "flat"])
def test_strides_and_gaps(backend: str, device: torch.device, place: str) -> None:
    layout = FlatLayout(SHAPES[:2], 3)
    weights = weights_of(torch.float32, device)[:2]
    flat = torch.randn(2, 2 * layout.size, generator=torch.Generator().manual_seed(8)).to(device)[:, ::2]
    if place == "weight":
        weights[0], flat = weights[0].T.contiguous().T, flat.contiguous()
    assert flat.is_contiguous() == (place == "weight")
    out = [torch.empty_like(weight) for weight in weights]
    LoraMerge(weights, out, layout)(flat, [0.5, 2.0])
    for own, right in zip(out, expected(weights, flat, layout, [0.5, 2.0]), strict=True):
        torch.testing.assert_close(own.double(), right, rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 150)), min_size=1, max_size=3),
    rank=st.integers(1, 20),
    loras=st.integers(1, 2),
)
def test_any_shapes_merge_the_same_on_both_paths(shapes: list[tuple[int, int]], rank: int, loras: int) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = FlatLayout(tuple(shapes), rank)
    generator = torch.Generator().manual_seed(len(shapes))
    weights = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    flat = torch.randn(loras, layout.size, generator=generator).to(device)
    found = []
    for name in ("triton", "torch"):
        with use_backend(name):
            found.append(merge_lora(weights, flat, layout, 0.3))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dynamic", [False, True])
def test_no_graph_break(backend: str, device: torch.device, dynamic: bool) -> None:
    layout = FlatLayout(SHAPES, 2)
    weights = weights_of(torch.float32, device)
    flat = torch.randn(layout.size, generator=torch.Generator().manual_seed(7)).to(device)
    torch._dynamo.reset()

    @torch.compile(backend="aot_eager", fullgraph=True, dynamic=dynamic)
    def graph(flat: Tensor, scale: float) -> list[Tensor]:
        return merge_lora(weights, flat, layout, scale, check=False)

    for own, right in zip(graph(flat, 0.5), merge_lora(weights, flat, layout, 0.5), strict=True):
        assert torch.equal(own, right)


def test_the_operator_is_what_it_says(backend: str, device: torch.device) -> None:
    weights = weights_of(torch.float32, device)
    flat = torch.randn(1, FlatLayout(SHAPES, 2).size, device=device)
    values = (weights, [weight.clone() for weight in weights], flat, torch.ones(1, device=device), None, None, 2)
    torch.library.opcheck(torch.ops.difflora_kernels.lora_merge.default, values)


def test_the_interpreter_or_the_gpu_really_runs_the_kernel(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from difflora_kernels.lora_merge import launch

    layout = FlatLayout(SHAPES, 2)
    weights, flat = weights_of(torch.float32, device), torch.zeros(layout.size, device=device)
    monkeypatch.setattr(launch, "lora_merge_kernel", None)
    with use_backend("torch"):
        merge_lora(weights, flat, layout)
    with use_backend("triton"), pytest.raises(TypeError):
        merge_lora(weights, flat, layout)
