# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig

from difflora.errors import BadParameter
from difflora.lora import LoraLayout, LoraMerger, LoraWeights, merged_weight


def bits(unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in unet.state_dict().items()}


def assert_same_bits(unet: torch.nn.Module, expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in unet.state_dict().items():
        assert torch.equal(tensor.flatten().view(torch.uint8), expected[name].flatten().view(torch.uint8)), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(7, 5), (6, 3, 3, 2), (4, 5, 1, 1)])
def test_reference_rounds_once(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    w0 = torch.randn(shape, generator=generator).to(dtype)
    lora_A = torch.randn(2, *shape[1:], generator=generator).half()
    lora_B = torch.randn(shape[0], 2, *(1,) * (len(shape) - 2), generator=generator).half()
    made = merged_weight(w0, lora_A, lora_B, 0.3)
    exact = w0.double() + 0.3 * (lora_B.flatten(1).double() @ lora_A.flatten(1).double()).view(shape)
    assert made.dtype == dtype
    assert made.shape == w0.shape
    spacing = torch.finfo(dtype).eps * exact.abs().clamp_min(1)
    assert ((made.double() - exact).abs() <= 0.51 * spacing + 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_merge_replaces_and_restore_is_exact(
    unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor, dtype: torch.dtype
) -> None:
    unet.to(dtype)
    pristine = bits(unet)
    merger = LoraMerger(unet, layout)
    merger.merge(flat)
    once = bits(unet)
    changed = {name for name in pristine if not torch.equal(once[name], pristine[name])}
    assert changed == {f"{module.name}.weight" for module in layout.modules}
    for _ in range(3):
        merger.merge(-2 * flat, scale=0.7)
    merger.merge(flat)
    assert_same_bits(unet, once)
    assert merger.merged
    merger.restore()
    merger.restore()
    assert_same_bits(unet, pristine)
    assert not merger.merged


def test_a_merge_changes_the_output_and_leaving_gives_it_back(
    unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor, inputs: dict[str, Any]
) -> None:
    with torch.no_grad():
        before = unet(**inputs).sample
        with LoraMerger(unet, layout) as merger:
            merger.merge(flat)
            assert (unet(**inputs).sample - before).abs().mean() > 0.01 * before.abs().mean()
            merger.merge(flat, scale=0.0)
            assert torch.equal(unet(**inputs).sample, before)
            merger.merge(flat)
        assert torch.equal(unet(**inputs).sample, before)
        with contextlib.suppress(RuntimeError), LoraMerger(unet, layout) as merger:
            merger.merge(flat)
            raise RuntimeError
        assert torch.equal(unet(**inputs).sample, before)


def test_scale_and_alpha_multiply(unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor) -> None:
    merger = LoraMerger(unet, layout)
    merger.merge(LoraWeights(layout, flat, None, alpha=6.0, scale=0.1), scale=0.5)
    with_alpha = bits(unet)
    merger.merge(flat, scale=0.5 * 6 / layout.rank)
    assert_same_bits(unet, with_alpha)


def test_parameters_stay_the_same_objects(unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor) -> None:
    places = {name: parameter.data_ptr() for name, parameter in unet.named_parameters()}
    LoraMerger(unet, layout).merge(flat.requires_grad_())
    assert {name: parameter.data_ptr() for name, parameter in unet.named_parameters()} == places
    assert all(parameter.grad_fn is None and parameter.requires_grad for parameter in unet.parameters())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_never_stays(
    unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor, bad: float
) -> None:
    pristine = bits(unet)
    merger = LoraMerger(unet, layout)
    merger.merge(flat)
    broken = flat.clone()
    broken[-1] = bad
    with pytest.raises(BadParameter, match="not finite"):
        merger.merge(broken)
    assert_same_bits(unet, pristine)
    with pytest.raises(BadParameter, match="scale is"):
        merger.merge(flat, scale=bad)
    assert_same_bits(unet, pristine)


def test_overflow_of_half_precision_never_stays(
    unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor
) -> None:
    pristine = bits(unet.half())
    with pytest.raises(BadParameter, match="not finite"):
        LoraMerger(unet, layout).merge(flat, scale=1e8)
    assert_same_bits(unet, pristine)


def test_what_does_not_fit_is_refused(
    unet: UNet2DConditionModel, sdxl: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor
) -> None:
    merger = LoraMerger(unet, layout)
    fewer = LoraLayout(layout.modules[1:], layout.rank)
    with pytest.raises(BadParameter, match=rf"{fewer.digest} where {layout.digest}"):
        merger.merge(LoraWeights(fewer, torch.zeros(fewer.size), None, alpha=3.0))
    with pytest.raises(BadParameter, match=str(layout.size)):
        merger.merge(flat[1:])
    with pytest.raises(BadParameter, match="one flat LoRA"):
        merger.merge(flat[None])
    with pytest.raises(BadParameter, match="on meta"):
        LoraMerger(sdxl, LoraLayout.from_unet(sdxl, ["attention"], 4))
    query = next(module for module in layout.modules if module.name.endswith("to_q"))
    for change, message in [
        ({"name": "down_blocks.7.to_q"}, r"down_blocks\.7\.to_q: no such module"),
        ({"in_features": 99}, r"weight \(32, 32\) where \(32, 99\) is needed"),
        ({"kernel": (1, 1)}, "a Linear; unload"),
    ]:
        with pytest.raises(BadParameter, match=message):
            LoraMerger(unet, LoraLayout((replace(query, **change),), 2))
    merger.merge(flat)
    unet.half()
    with pytest.raises(BadParameter, match=r"float16 now and was torch\.float32"):
        merger.restore()


def test_a_unet_with_adapters_is_refused(unet: UNet2DConditionModel, layout: LoraLayout) -> None:
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    with pytest.raises(BadParameter, match="unload other adapters"):
        LoraMerger(unet, layout)
