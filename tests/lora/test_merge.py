# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model

from difflora.errors import BadParameter
from difflora.lora import LoraLayout, LoraMerger, LoraWeights, Normalisation, NormalisationSettings
from difflora_kernels import use_backend


def bits(unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in unet.state_dict().items()}


def assert_same_bits(unet: torch.nn.Module, expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in unet.state_dict().items():
        assert torch.equal(tensor.flatten().view(torch.uint8), expected[name].flatten().view(torch.uint8)), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_merge_rounds_once(
    unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor, dtype: torch.dtype
) -> None:
    pristine = bits(unet.to(dtype))
    LoraMerger(unet, layout).merge(flat, scale=0.7)
    for name, (lora_A, lora_B) in layout.views(flat.double()).items():
        made = unet.get_submodule(name).weight
        w0 = pristine[f"{name}.weight"].double()
        exact = w0 + 0.7 * (lora_B @ lora_A).view(w0.shape)
        spacing = torch.finfo(dtype).eps * exact.abs()
        assert made.dtype == dtype
        assert ((made.double() - exact).abs() <= 0.51 * spacing + 1e-7).all(), name


def assert_one_rounding_apart(theirs: torch.Tensor, ours: torch.Tensor, w0: torch.Tensor, name: str) -> None:
    """Others round B A to the weight's dtype before they add it: one rounding more than ours."""
    delta = ours.double() - w0.double()
    spacing = torch.finfo(w0.dtype).eps * (ours.double().abs() + delta.abs())
    assert ((theirs.double() - ours.double()).abs() <= spacing + 1e-7).all(), name


DTYPES_AND_PATHS = [
    (torch.float16, "torch"),
    (torch.float32, "torch"),
    (torch.bfloat16, "torch"),
    (torch.float16, "triton"),
    (torch.float32, "triton"),
]
if torch.cuda.is_available():  # the interpreter cuts float32 off to bfloat16 where a GPU rounds to nearest
    DTYPES_AND_PATHS.append((torch.bfloat16, "triton"))


def device_of(path: str) -> torch.device:
    """Where a path can run: Triton on a GPU where there is one, else in its interpreter."""
    return torch.device("cuda" if path == "triton" and torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("dtype", "path"), DTYPES_AND_PATHS)
def test_peft_merges_the_same(unet: UNet2DConditionModel, weights: LoraWeights, dtype: torch.dtype, path: str) -> None:
    pristine = bits(unet.to(device_of(path), dtype))
    config = LoraConfig(r=3, lora_alpha=weights.alpha, target_modules=[each.name for each in weights.layout.modules])
    theirs = get_peft_model(copy.deepcopy(unet), config)
    for name, (lora_A, lora_B) in weights.tensors().items():
        module = theirs.base_model.model.get_submodule(name)
        for side, value in (("lora_A", lora_A), ("lora_B", lora_B)):
            parameter = getattr(module, side)["default"].weight
            parameter.data = value.reshape(parameter.shape).clone().to(unet.device)
    theirs.merge_adapter()
    with use_backend(path):
        LoraMerger(unet, weights.layout).merge(weights)
    for module in weights.layout.modules:
        merged = theirs.base_model.model.get_submodule(module.name).base_layer.weight
        ours, w0 = unet.get_submodule(module.name).weight, pristine[f"{module.name}.weight"]
        assert not torch.equal(ours, w0)
        assert_one_rounding_apart(merged, ours, w0, module.name)


@pytest.mark.parametrize(("dtype", "path"), DTYPES_AND_PATHS)
def test_diffusers_fuses_the_same(
    pipeline: StableDiffusionXLPipeline, weights: LoraWeights, tmp_path: Path, dtype: torch.dtype, path: str
) -> None:
    file = tmp_path / "person.safetensors"
    weights = replace(weights, flat=weights.flat.to(dtype))  # diffusers rounds A and B to the UNet's dtype
    weights.save(file, torch.float32 if dtype == torch.bfloat16 else dtype)  # which holds its numbers as they are
    pipeline.to(device_of(path))
    pipeline.unet.to(dtype)
    ours = copy.deepcopy(pipeline.unet)
    pristine = bits(ours)
    with use_backend(path):
        LoraMerger(ours, weights.layout).merge(weights, scale=0.5)
    pipeline.load_lora_weights(file)
    pipeline.fuse_lora(lora_scale=0.5)
    pipeline.unload_lora_weights()
    fused, merged = pipeline.unet.state_dict(), ours.state_dict()
    assert set(fused) == set(merged)
    for name, w0 in pristine.items():
        assert_one_rounding_apart(fused[name], merged[name], w0, name)


def test_several_at_once_are_a_sum(unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor) -> None:
    pristine = bits(unet.double())
    merger = LoraMerger(unet, layout)
    first, second = LoraWeights(layout, flat, None, alpha=6.0), LoraWeights(layout, flat.flip(0), None, alpha=3.0)
    made = []
    for lora, scale in ((first, 0.5), (second, -2.0), ([first, second], [0.5, -2.0])):
        merger.merge(lora, scale)
        made.append({name: tensor - pristine[name] for name, tensor in bits(unet).items()})
    for name, one in made[0].items():
        torch.testing.assert_close(made[2][name], one + made[1][name], rtol=1e-9, atol=1e-9)
    together = bits(unet)
    merger.merge(torch.stack([flat, flat.flip(0)]), [0.5 * 6 / layout.rank, -2.0])
    assert_same_bits(unet, together)


@pytest.mark.parametrize("mode", ["none", "module", "element"])
@pytest.mark.parametrize("subtract_mean", [False, True])
def test_normalised_vectors_merge_as_they_were(
    unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor, mode: Any, subtract_mean: bool
) -> None:
    corpus = flat * torch.tensor([[0.5], [1.0], [3.0]]) + 0.01
    settings = NormalisationSettings(mode=mode, subtract_mean=subtract_mean)
    normalisation = Normalisation.fit([corpus], layout, settings)
    merger = LoraMerger(unet, layout)
    merger.merge(corpus[2], 0.7)
    expected = bits(unet)
    merger.merge(normalisation.apply(corpus[2]), 0.7, normalisation)
    for name, tensor in bits(unet).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    with pytest.raises(BadParameter, match="a normalisation for flat vectors alone"):
        merger.merge(LoraWeights(layout, flat, None, alpha=3.0), normalisation=normalisation)


def test_swapping_a_thousand_times_leaves_the_base(
    unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor
) -> None:
    few = LoraLayout(layout.modules[:2], layout.rank)
    people = flat[: few.size] * torch.linspace(-1, 1, 10)[:, None]
    unet.to(torch.bfloat16)
    pristine = bits(unet)
    with LoraMerger(unet, few) as merger:
        for swap in range(1000):
            merger.merge(people[swap % 10])
        twin = copy.deepcopy(unet)
        merger.restore()
        assert_same_bits(unet, pristine)
        merger.merge(people[9])
        assert_same_bits(unet, bits(twin))
    assert_same_bits(unet, pristine)


def test_a_unet_that_was_moved_is_merged_where_it_is(
    unet: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor
) -> None:
    merger = LoraMerger(unet, layout)
    merger.merge(flat)
    expected = bits(unet)
    merger.restore()
    unet.to(memory_format=torch.channels_last)
    merger.merge(flat)
    for name, tensor in bits(unet).items():
        torch.testing.assert_close(tensor, expected[name])


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
    for broken in (flat[None, None], flat[None][:0], flat.int()):
        with pytest.raises(BadParameter, match="a flat LoRA is"):
            merger.merge(broken)
    with pytest.raises(BadParameter, match="2 scales for 1 LoRAs"):
        merger.merge(flat, [1.0, 2.0])
    normalisation = Normalisation.fit([torch.ones(1, fewer.size)], fewer, NormalisationSettings())
    with pytest.raises(BadParameter, match=f"normalisation of layout {fewer.digest}"):
        merger.merge(flat, normalisation=normalisation)
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
