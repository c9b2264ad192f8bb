# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st

from difflora.errors import BadParameter
from difflora.lora import LoraLayout, LoraModule, canonical

LAYOUT = LoraLayout((LoraModule("a", 12, 20), LoraModule("b", 9, 4, (3, 3)), LoraModule("c", 12, 20)), 3)


def draw(layout: LoraLayout, *leading: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*leading, layout.size, generator=torch.Generator().manual_seed(seed))


def assert_same_function(one: torch.Tensor, two: torch.Tensor, layout: LoraLayout, tolerance: float = 3e-6) -> None:
    first, second = layout.views(one.double()), layout.views(two.double())
    for name, (lora_A, lora_B) in first.items():
        product = lora_B @ lora_A
        error = (second[name][1] @ second[name][0] - product).norm()
        # Rounding is relative to the factors: their product may cancel to far less.
        assert error <= tolerance * lora_B.norm() * lora_A.norm(), name


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 5), st.integers(0, 1000), st.sampled_from([1e-12, 1, 1e6]))
@settings(max_examples=60, deadline=None)
def test_the_function_stays_and_factors_are_balanced(m: int, n: int, rank: int, seed: int, scale: float) -> None:
    layout = LoraLayout((LoraModule("a", m, n),), rank)  # also with a rank above m and n
    flat = draw(layout, seed=seed) * scale
    made = canonical(flat, layout)
    assert made.shape == flat.shape
    assert_same_function(flat, made, layout)
    lora_A, lora_B = layout.views(made)["a"]
    gram_A, gram_B = lora_A @ lora_A.T, lora_B.T @ lora_B
    torch.testing.assert_close(gram_A, gram_B, rtol=0, atol=3e-6 * gram_A.max().item())
    torch.testing.assert_close(gram_A, gram_A.diag().diag(), rtol=0, atol=3e-6 * gram_A.max().item())
    assert (gram_A.diag().diff() <= 1e-6 * gram_A.max()).all()


def test_factorisations_of_one_function_become_one() -> None:
    flat = draw(LAYOUT, 4)
    mixing = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(9)))[0] @ torch.diag(
        torch.tensor([-2.0, 0.3, 5.0])
    )
    mixed = {
        name: (torch.linalg.inv(mixing) @ lora_A, lora_B @ mixing)
        for name, (lora_A, lora_B) in LAYOUT.views(flat).items()
    }
    torch.testing.assert_close(canonical(LAYOUT.flatten(mixed), LAYOUT), canonical(flat, LAYOUT), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        canonical(canonical(flat, LAYOUT), LAYOUT), canonical(flat, LAYOUT), rtol=1e-3, atol=1e-4
    )


def test_a_small_change_of_the_lora_is_a_small_change_of_its_form() -> None:
    layout = LoraLayout((LoraModule("a", 300, 200),), 3)
    views = layout.views(draw(layout, 200))
    strengths = torch.tensor([4.0, 2.0, 1.0])
    flat = layout.flatten({"a": (views["a"][0], views["a"][1] * strengths)})
    near = flat + 1e-4 * draw(layout, 200, seed=1)
    apart = (canonical(near, layout) - canonical(flat, layout)).norm(dim=-1) / canonical(flat, layout).norm(dim=-1)
    # A turned sign of any of the three columns would be of order 1.
    assert apart.median() < 1e-3
    assert (apart > 0.1).float().mean() <= 0.01


def test_many_at_once_are_as_one_by_one() -> None:
    flat = draw(LAYOUT, 5)
    together = canonical(flat, LAYOUT)
    for row, expected in zip(flat, together, strict=True):
        torch.testing.assert_close(canonical(row, LAYOUT), expected)


def test_parts_of_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = draw(LAYOUT, 5)
    expected = canonical(flat, LAYOUT)
    # By import_module: the package hands on a function of the module's name.
    monkeypatch.setattr(import_module("difflora.lora.canonical"), "_NUMBERS_AT_ONCE", 2 * LAYOUT.size)
    torch.testing.assert_close(canonical(flat, LAYOUT), expected)


def test_zero_and_deficient_modules() -> None:
    flat = draw(LAYOUT)
    views = LAYOUT.views(flat)
    views["a"][1].zero_()  # as a LoRA starts: B = 0
    views["b"][1][:, 1:] = views["b"][1][:, :1]  # rank 1
    views["c"][0].zero_()
    views["c"][1].zero_()
    made = canonical(flat, LAYOUT)
    assert torch.isfinite(made).all()
    assert_same_function(flat, made, LAYOUT)
    found = LAYOUT.views(made)
    assert not found["a"][0].any()
    assert not found["c"][1].any()
    assert not found["b"][0][1:].any(), "noise of rounding became columns"
    assert not found["b"][1][:, 1:].any()
    assert not canonical(torch.zeros(LAYOUT.size), LAYOUT).any()


def test_half_precision_and_gradients() -> None:
    flat = draw(LAYOUT).half().requires_grad_()
    made = canonical(flat, LAYOUT)
    assert made.dtype == torch.float16
    assert not made.requires_grad
    assert_same_function(flat.detach(), made, LAYOUT, tolerance=2e-3)
    assert canonical(draw(LAYOUT).double(), LAYOUT).dtype == torch.float64


def test_bad_input() -> None:
    flat = draw(LAYOUT)
    flat[3] = torch.nan
    with pytest.raises(BadParameter, match="not finite"):
        canonical(flat, LAYOUT)
    with pytest.raises(BadParameter, match=str(LAYOUT.size)):
        canonical(flat[1:], LAYOUT)
    with pytest.raises(BadParameter, match=r"\(D,\) or \(N, D\)"):
        canonical(torch.zeros(1, 1, LAYOUT.size), LAYOUT)


def test_all_of_sdxl(sdxl: UNet2DConditionModel) -> None:
    layout = LoraLayout.from_unet(sdxl, ["attention"], 4)
    flat = draw(layout)
    made = canonical(flat, layout)
    last = layout.modules[-1].name
    (lora_A, lora_B), (new_A, new_B) = layout.views(flat)[last], layout.views(made)[last]
    torch.testing.assert_close(new_B @ new_A, lora_B @ lora_A, rtol=1e-4, atol=1e-4)
