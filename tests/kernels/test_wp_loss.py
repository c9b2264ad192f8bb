from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from difflora_kernels import WeightPreservedLoss, use_backend, weight_preserved_loss
from difflora_kernels.wp_loss import compiled

X, X_HAT = torch.tensor([[2.0, -1.0, 0.0, 0.5]]), torch.tensor([[1.0, -1.5, 4.0, 0.5]])
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def expected(
    x_hat: Tensor, x: Tensor, wp_weight: float, reconstruction: str, weights: Tensor | None, reduction: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss by its definition, in float64."""
    difference = x.double() - x_hat.double()
    errors = difference.abs() if reconstruction == "l1" else difference**2
    preserved = x.double().abs() * difference.abs()
    factors = torch.ones_like(errors) if weights is None else weights.double().expand_as(errors)

    def reduce(values: Tensor) -> Tensor:
        if reduction == "sample":
            return (values * factors).flatten(1).sum(1) / factors.flatten(1).sum(1)
        total = (values * factors).sum()
        return total if reduction == "sum" else total / factors.sum()

    first, second = reduce(errors), reduce(preserved)
    return first + wp_weight * second, first, second


def assert_close(name: str, found: Tensor, truth: Tensor, tolerance: float) -> None:
    scale = truth.detach().abs().max().clamp(min=1e-6)
    worst = ((found.detach().double() - truth.detach()).abs().max() / scale).item()
    assert worst <= tolerance, f"{name}: off by {worst:.2e} of its largest value, {tolerance:.0e} is allowed"


@pytest.mark.parametrize(
    ("wp_weight", "reconstruction", "right"),
    [
        (0.0, "mse", (1 + 0.25 + 16) / 4),
        (0.0, "l1", (1 + 0.5 + 4) / 4),
        (1.0, "mse", (1 + 0.25 + 16) / 4 + (2 * 1 + 1 * 0.5 + 0 * 4) / 4),
        (0.5, "l1", (1 + 0.5 + 4) / 4 + 0.5 * (2 * 1 + 1 * 0.5 + 0 * 4) / 4),
    ],
)
def test_equation_2_by_hand(
    backend: str, device: torch.device, wp_weight: float, reconstruction: str, right: float
) -> None:
    terms = weight_preserved_loss(X_HAT.to(device), X.to(device), wp_weight=wp_weight, reconstruction=reconstruction)
    assert float(terms.loss) == pytest.approx(right)
    assert float(terms.weight_preserved) == pytest.approx((2 * 1 + 1 * 0.5 + 0 * 4) / 4)
    assert float(terms.reconstruction) == pytest.approx(right - wp_weight * float(terms.weight_preserved))


def test_gradient_is_zero_where_the_reconstruction_is_right(backend: str, device: torch.device) -> None:
    x_hat = X_HAT.clone().to(device).requires_grad_()
    weight_preserved_loss(x_hat, X.to(device), wp_weight=2.0).loss.backward()
    right = torch.tensor([[2 * -1 - 2 * 2.0, 2 * -0.5 - 2 * 1.0, 2 * 4.0 + 0.0, 0.0]], device=device) / 4
    torch.testing.assert_close(x_hat.grad, right)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["mean", "sum", "sample"])
@pytest.mark.parametrize("reconstruction", ["mse", "l1"])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradient(
    backend: str, device: torch.device, dtype: torch.dtype, reduction: str, reconstruction: str, masked: bool
) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(3, 1037, generator=generator).to(device, dtype)
    x_hat = (x.float() + 0.3 * torch.randn(3, 1037, generator=generator).to(device)).to(dtype).requires_grad_()
    weights = torch.rand(1037, generator=generator).to(device) if masked else None
    own = weight_preserved_loss(
        x_hat, x, wp_weight=0.7, reconstruction=reconstruction, weights=weights, reduction=reduction
    )
    upstream = torch.full_like(own.loss, 2.5)
    own.loss.backward(upstream)
    truth_in = x_hat.detach().double().requires_grad_()
    truth = expected(truth_in, x, 0.7, reconstruction, weights, reduction)
    truth[0].backward(upstream.double())
    for name, found, right in zip(("loss", "reconstruction", "weight preserved"), own, truth, strict=True):
        assert_close(name, found, right, 2e-5 if dtype == torch.float32 else TOLERANCE[dtype])
    assert x_hat.grad is not None
    assert truth_in.grad is not None
    assert x_hat.grad.dtype == dtype
    assert_close("gradient", x_hat.grad, truth_in.grad, TOLERANCE[dtype])


@pytest.mark.parametrize("reduction", ["mean", "sum", "sample"])
@pytest.mark.parametrize("reconstruction", ["mse", "l1"])
def test_gradcheck_of_the_reference(reduction: str, reconstruction: str) -> None:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    away = torch.randn(2, 9, generator=generator, dtype=torch.float64).sign() * 0.3  # from the kink at x
    x_hat = (x + away).requires_grad_()
    weights = torch.rand(9, generator=generator, dtype=torch.float64)

    def loss(given: Tensor) -> Tensor:
        return weight_preserved_loss(
            given, x, wp_weight=0.4, reconstruction=reconstruction, weights=weights, reduction=reduction
        ).loss

    with use_backend("torch"):
        assert torch.autograd.gradcheck(loss, (x_hat,))


def test_values_without_a_gradient_are_the_same(backend: str, device: torch.device) -> None:
    x, x_hat = torch.randn(3, 700, device=device), torch.randn(3, 700, device=device, requires_grad=True)
    with_gradient = weight_preserved_loss(x_hat, x)
    with torch.no_grad():
        without = weight_preserved_loss(x_hat, x)
    assert with_gradient.loss.requires_grad
    assert not without.loss.requires_grad
    assert not with_gradient.reconstruction.requires_grad
    for one, other in zip(with_gradient, without, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-6, atol=0)


def test_autocast_mixes_dtypes(backend: str, device: torch.device) -> None:
    layer = torch.nn.Linear(16, 400, device=device)
    x = torch.randn(4, 400, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        x_hat = layer(torch.randn(4, 16, device=device))
        terms = weight_preserved_loss(x_hat, x)
    assert x_hat.dtype == torch.bfloat16
    assert terms.loss.dtype == torch.float32
    terms.loss.backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()
    torch.testing.assert_close(terms.loss, weight_preserved_loss(x_hat.detach().float(), x).loss, rtol=1e-5, atol=0)


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 3), columns=st.integers(1, 2100), seed=st.integers(0, 99))
def test_any_shape_gives_the_same_on_both_paths(rows: int, columns: int, seed: int) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(seed)
    x, made = (torch.randn(rows, columns, generator=generator).to(device) for _ in range(2))
    losses, gradients = [], []
    for name in ("triton", "torch"):
        x_hat = made.clone().requires_grad_()
        with use_backend(name):
            losses.append(weight_preserved_loss(x_hat, x, wp_weight=0.5).loss)
            gradients += torch.autograd.grad(losses[-1], x_hat)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


def test_the_interpreter_or_the_gpu_really_runs_the_kernel(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from difflora_kernels.wp_loss import launch

    x = torch.randn(2, 50, device=device)
    names = [name for name, value in vars(launch).items() if name.endswith("_kernel") or hasattr(value, "run")]
    assert names, "the launcher names no kernel"
    for name in names:
        monkeypatch.setattr(launch, name, None)
    with use_backend("torch"):
        weight_preserved_loss(x + 1, x)
    with use_backend("triton"), pytest.raises(TypeError):
        weight_preserved_loss(x + 1, x)


def test_equal_inputs_give_equal_bits(backend: str, device: torch.device) -> None:
    x, x_hat = torch.randn(4, 5000, device=device), torch.randn(4, 5000, device=device)
    assert len({weight_preserved_loss(x_hat, x).loss.item() for _ in range(5)}) == 1


def test_nothing_to_learn_has_no_gradient(backend: str, device: torch.device) -> None:
    x = torch.randn(2, 300, device=device)
    x_hat = x.clone().requires_grad_()  # sign(0) is 0
    weight_preserved_loss(x_hat, x, reconstruction="l1").loss.backward()
    assert x_hat.grad is not None
    assert not x_hat.grad.any()


@pytest.mark.parametrize("shape", [(0,), (2, 0), (1,), (1, 1)])
def test_the_smallest_sizes(backend: str, device: torch.device, shape: tuple[int, ...]) -> None:
    x = torch.full(shape, 2.0, device=device)
    x_hat = torch.ones(shape, device=device, requires_grad=True)
    terms = weight_preserved_loss(x_hat, x, wp_weight=0.5)
    assert terms.loss.item() == pytest.approx(0.0 if x.numel() == 0 else 1 + 0.5 * 2)
    terms.loss.backward()
    assert x_hat.grad is not None
    assert x_hat.grad.flatten().tolist() == pytest.approx([-3.0] * x.numel())


def test_strided_inputs_and_padding_that_holds_nan(backend: str, device: torch.device) -> None:
    x, x_hat = (torch.randn(40, 6, device=device).T for _ in range(2))
    mask = torch.ones(40, dtype=torch.bool, device=device)
    mask[30:] = False
    kept = x_hat[:, :30].requires_grad_()
    whole = weight_preserved_loss(kept, x[:, :30])
    padded = x_hat.detach().clone()
    padded[:, 30:] = float("nan")
    padded.requires_grad_()
    assert not x.is_contiguous()
    assert not padded.is_contiguous()
    found = weight_preserved_loss(padded, x, weights=mask)
    torch.testing.assert_close(found, whole)
    (grad,) = torch.autograd.grad(found.loss, padded)
    torch.testing.assert_close(grad[:, :30], torch.autograd.grad(whole.loss, kept)[0])
    assert not grad[:, 30:].any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "sample"])
def test_weights_of_each_element(backend: str, device: torch.device, reduction: str) -> None:
    generator = torch.Generator().manual_seed(8)
    x, x_hat = (torch.randn(3, 2, 531, generator=generator).to(device) for _ in range(2))
    weights = torch.rand(3, 2, 531, generator=generator).to(device)
    x_hat.requires_grad_()
    own = weight_preserved_loss(x_hat, x, wp_weight=0.7, weights=weights, reduction=reduction)
    own.loss.sum().backward()
    truth_in = x_hat.detach().double().requires_grad_()
    truth = expected(truth_in, x, 0.7, "mse", weights, reduction)
    truth[0].sum().backward()
    assert_close("loss", own.loss, truth[0], 1e-5)
    assert x_hat.grad is not None
    assert truth_in.grad is not None
    assert_close("gradient", x_hat.grad, truth_in.grad, 1e-5)


def test_no_weight_at_all_is_no_loss(backend: str, device: torch.device) -> None:
    x_hat = torch.randn(2, 300, device=device, requires_grad=True)
    weights = torch.ones(2, 300, device=device)
    weights[1] = 0
    found = weight_preserved_loss(x_hat, torch.zeros(2, 300, device=device), weights=weights, reduction="sample")
    found.loss.sum().backward()
    assert found.loss[0] > 0
    assert found.loss[1] == 0
    assert x_hat.grad is not None
    assert not x_hat.grad[1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_second_backward_pass_and_no_second_derivative(
    backend: str, device: torch.device, dtype: torch.dtype
) -> None:
    x = torch.randn(2, 300, device=device, dtype=dtype)
    x_hat = torch.randn(2, 300, device=device).to(dtype).requires_grad_()
    loss = weight_preserved_loss(x_hat, x).loss
    (first,) = torch.autograd.grad(3.0 * loss, x_hat, retain_graph=True)
    kept = first.clone()
    first.zero_()  # whoever has it may change it
    (second,) = torch.autograd.grad(3.0 * loss, x_hat, retain_graph=True)
    torch.testing.assert_close(second, kept)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, x_hat, create_graph=True)


@pytest.mark.parametrize("dynamic", [False, True])
def test_no_graph_break_and_the_module(backend: str, device: torch.device, dynamic: bool) -> None:
    module = WeightPreservedLoss(wp_weight=0.3)
    x, x_hat = torch.randn(2, 100, device=device), torch.randn(2, 100, device=device, requires_grad=True)
    torch._dynamo.reset()
    graph = torch.compile(lambda a, b: 2.0 * module(a, b).loss, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    own, right = graph(x_hat, x), 2.0 * module(x_hat, x).loss
    torch.testing.assert_close(own, right)
    torch.testing.assert_close(torch.autograd.grad(own, x_hat)[0], torch.autograd.grad(right, x_hat)[0])


@pytest.mark.skipif(not compiled.serves(torch.device("cpu"), compiled.LEAST), reason="needs a C++ compiler")
def test_inside_what_inductor_compiles(backend: str, device: torch.device) -> None:
    x, x_hat = torch.randn(2, 100, device=device), torch.randn(2, 100, device=device, requires_grad=True)

    def step(x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return weight_preserved_loss(x_hat.sin(), x, wp_weight=0.3).loss * 2

    torch._dynamo.reset()
    own, right = torch.compile(step, fullgraph=True)(x_hat, x), step(x_hat, x)
    torch.testing.assert_close(own, right)
    torch.testing.assert_close(torch.autograd.grad(own, x_hat)[0], torch.autograd.grad(right, x_hat)[0])


def test_the_operator_is_what_it_says(backend: str, device: torch.device) -> None:
    x, x_hat = torch.randn(2, 100, device=device), torch.randn(2, 100, device=device)
    values = (x_hat, x, None, 0.5, "mse", "mean")
    torch.library.opcheck(torch.ops.difflora_kernels.wp_loss.default, (*values, True))


@pytest.mark.skipif(not compiled.serves(torch.device("cpu"), compiled.LEAST), reason="needs a C++ compiler")
@pytest.mark.parametrize("columns", [2**12 + 7, 2**9])  # with numbers left over, and without
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_inputs_on_cpu_are_compiled(monkeypatch: pytest.MonkeyPatch, columns: int, dtype: torch.dtype) -> None:
    monkeypatch.setattr(compiled, "LEAST", 1)
    called = []
    run = compiled.fused
    monkeypatch.setattr(compiled, "fused", lambda *given: called.append(1) or run(*given))
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, columns, generator=generator).to(dtype)
    x_hat = torch.randn(3, columns, generator=generator).to(dtype).requires_grad_()
    weights = torch.rand(columns, generator=generator)
    for mask in (None, weights):
        own = weight_preserved_loss(x_hat, x, wp_weight=0.7, weights=mask, reduction="sample")
        truth_in = x_hat.detach().double().requires_grad_()
        truth = expected(truth_in, x, 0.7, "mse", mask, "sample")
        for name, found, right in zip(("loss", "reconstruction", "weight preserved"), own, truth, strict=True):
            assert_close(name, found, right, 1e-5)
        (grad,) = torch.autograd.grad(own.loss.sum(), x_hat)
        assert grad.dtype == dtype
        assert_close("gradient", grad, torch.autograd.grad(truth[0].sum(), truth_in)[0], TOLERANCE[dtype])
    assert len(called) == 2


def test_pieces_divide_the_rows_where_they_can() -> None:
    assert compiled.piece_width(1_451_520 * 4) == 2**11  # SDXL, rank 4
    assert compiled.piece_width(2**20) == compiled.WIDTH
    assert compiled.piece_width(2**20 + 1) == compiled.WIDTH


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reconstruction": "huber"}, "huber"),
        ({"reduction": "none"}, "none"),
        ({"wp_weight": float("nan")}, "wp_weight"),
        ({"weights": torch.ones(3)}, "weights"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weight_preserved_loss(torch.ones(2, 5), torch.ones(2, 5), **change)  # type: ignore[arg-type]
