# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from difflora.errors import BadFile, BadParameter
from difflora.lora import LoraLayout, LoraModule

MODULES = st.builds(
    LoraModule,
    st.text("abc", min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 6),
    st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
LAYOUTS = st.builds(
    lambda modules, rank: LoraLayout(tuple(modules), rank),
    st.lists(MODULES, min_size=1, max_size=5, unique_by=lambda module: module.name),
    st.integers(1, 4),
)


@pytest.mark.parametrize(
    ("targets", "count", "size"),
    [
        (["attention"], 560, 1_451_520),
        (["cross_attention_kv"], 140, 453_120),
        (["attention", "feed_forward"], 700, 2_616_320),
        (["attn1.to_q"], 70, 70 * 2560 - 10 * 1280),
    ],
)
def test_sdxl_as_counted(sdxl: UNet2DConditionModel, targets: list[str], count: int, size: int) -> None:
    assert sum(parameter.numel() for parameter in sdxl.parameters()) == 2_567_463_684
    layout = LoraLayout.from_unet(sdxl, targets, 1)
    assert len(layout.modules) == count
    assert layout.size == size
    assert LoraLayout.from_unet(sdxl, targets, 4).size == 4 * size


def test_sd15_as_counted(sd15: UNet2DConditionModel) -> None:
    assert sum(parameter.numel() for parameter in sd15.parameters()) == 859_520_964
    layout = LoraLayout.from_unet(sd15, ["attention"], 1)
    assert len(layout.modules) == 16 * 8
    assert layout.size == 199_296


def test_sdxl_shapes(sdxl: UNet2DConditionModel) -> None:
    shapes = LoraLayout.from_unet(sdxl, ["attention"], 4).by_shape
    assert {shape: len(names) for shape, names in shapes.items()} == {
        (640, 640): 60,
        (640, 2048): 20,
        (1280, 1280): 360,
        (1280, 2048): 120,
    }


def test_sd15_has_convolutions_for_projections(sd15: UNet2DConditionModel, sdxl: UNet2DConditionModel) -> None:
    layout = LoraLayout.from_unet(sd15, ["projections"], 4)
    assert len(layout.modules) == 32
    assert {module.kernel for module in layout.modules} == {(1, 1)}
    assert {module.kernel for module in LoraLayout.from_unet(sdxl, ["projections"], 4).modules} == {None}
    kernels = {module.kernel for module in LoraLayout.from_unet(sd15, ["convolutions"], 4).modules}
    assert kernels == {(3, 3), (1, 1)}


def test_order_is_that_of_the_unet_not_of_the_targets(unet: UNet2DConditionModel) -> None:
    layout = LoraLayout.from_unet(unet, ["to_v", "projections", "to_q", "attn2.to_v"], 2)
    names = [module.name for module in layout.modules]
    assert names == [name for name, _ in unet.named_modules() if name in set(names)]
    assert layout == LoraLayout.from_unet(unet, ["projections", "to_q", "to_v"], 2)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["attention", "to_z"], "'to_z' matches no module"),
        (["o_q"], "'o_q' matches no module"),
        (["norm1"], "a GroupNorm"),
        ([], "give a list"),
        ("attention", "give a list"),
    ],
)
def test_bad_targets(unet: UNet2DConditionModel, targets: list[str], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        LoraLayout.from_unet(unet, targets, 2)


def test_grouped_convolutions_and_wrapped_layers_are_refused(unet: UNet2DConditionModel) -> None:
    with pytest.raises(BadParameter, match="deep: a convolution with groups"):
        LoraLayout.from_unet(nn.ModuleDict({"deep": nn.Conv2d(4, 4, 3, groups=2)}), ["deep"], 2)
    from peft import LoraConfig

    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    with pytest.raises(BadParameter, match="unload other adapters"):
        LoraLayout.from_unet(unet, ["attention"], 2)


def test_byte_order_is_the_papers() -> None:
    layout = LoraLayout((LoraModule("one", 2, 3), LoraModule("two", 1, 2, (1, 2))), 2)
    flat = torch.arange(2 * (2 + 3 + 1 + 4))
    views = layout.views(flat)
    lora_A, lora_B = views["one"]
    assert lora_B.tolist() == [[0, 1], [2, 3]]
    assert lora_A.tolist() == [[4, 6, 8], [5, 7, 9]]
    assert views["two"][1].tolist() == [[10, 11]]
    assert views["two"][0].tolist() == [[12, 14, 16, 18], [13, 15, 17, 19]]
    assert layout.slices == {"one": slice(0, 10), "two": slice(10, 20)}
    # The same, by the definition: B flattened, A transposed and flattened.
    assert torch.equal(flat[layout.slices["one"]], torch.cat([lora_B.flatten(), lora_A.T.flatten()]))


@given(LAYOUTS, st.sampled_from([(), (2,), (2, 3)]))
@settings(max_examples=40, deadline=None)
def test_views_and_back(layout: LoraLayout, leading: tuple[int, ...]) -> None:
    flat = torch.randn(*leading, layout.size)
    views = layout.views(flat)
    assert [module.name for module in layout.modules] == list(views)
    for module in layout.modules:
        lora_A, lora_B = views[module.name]
        assert lora_A.shape == (*leading, layout.rank, module.columns)
        assert lora_B.shape == (*leading, module.out_features, layout.rank)
        assert lora_A.untyped_storage().data_ptr() == lora_B.untyped_storage().data_ptr()
        assert lora_A.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
    assert torch.equal(layout.flatten(views), flat)
    as_stored = {
        module.name: (
            views[module.name][0].reshape(*leading, *module.lora_A_shape(layout.rank)),
            views[module.name][1].reshape(*leading, *module.lora_B_shape(layout.rank)),
        )
        for module in layout.modules
        if module.kernel is None
    }
    assert torch.equal(layout.flatten(dict(views) | as_stored), flat)


@given(LAYOUTS)
@settings(max_examples=40, deadline=None)
def test_json_and_back(layout: LoraLayout) -> None:
    again = LoraLayout.from_json(json.loads(json.dumps(layout.to_json())))
    assert again == layout
    assert hash(again) == hash(layout)
    assert again.digest == layout.digest
    assert LoraLayout(layout.modules, layout.rank + 1).digest != layout.digest
    if len(layout.modules) > 1:
        assert LoraLayout(layout.modules[::-1], layout.rank).digest != layout.digest


def test_digest_stays_what_it_was() -> None:
    # Files carry it: a change here is a new file format.
    layout = LoraLayout((LoraModule("a.to_q", 2, 3), LoraModule("b.conv", 4, 2, (3, 3))), 2)
    assert layout.digest == "7c5ec3a4e670c38dc8fdd11bc485d9d575efade0f9f547981ceb2ba0521c155c"


def test_convolution_tensors_as_peft_stores_them() -> None:
    layout = LoraLayout((LoraModule("conv", 4, 3, (2, 5)),), 2)
    lora_A, lora_B = torch.randn(2, 3, 2, 5), torch.randn(4, 2, 1, 1)
    views = layout.views(layout.flatten({"conv": (lora_A, lora_B)}))
    assert torch.equal(views["conv"][0].reshape(2, 3, 2, 5), lora_A)
    assert torch.equal(views["conv"][1], lora_B[:, :, 0, 0])


def test_gradients_reach_one_flat_leaf(layout: LoraLayout) -> None:
    flat = torch.randn(2, layout.size, requires_grad=True)
    sum((lora_B @ lora_A).square().sum() for lora_A, lora_B in layout.views(flat).values()).backward()
    assert flat.grad is not None
    assert flat.grad.shape == flat.shape
    name = layout.modules[0].name
    lora_A, lora_B = (tensor.detach() for tensor in layout.views(flat)[name])
    expected = 2 * lora_B @ lora_A @ lora_A.mT
    torch.testing.assert_close(layout.views(flat.grad)[name][1], expected)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": (torch.zeros(2, 3), torch.zeros(4, 2))}, "b: missing"),
        ({"c": (torch.zeros(2, 3), torch.zeros(4, 2))}, "c: not a module"),
        ({"a": (torch.zeros(2, 4), torch.zeros(4, 2)), "b": (torch.zeros(2, 3),) * 2}, r"a.lora_A: shape \(2, 4\)"),
        ({"a": (torch.zeros(2, 3), torch.zeros(2, 4)), "b": (torch.zeros(2, 3),) * 2}, r"a.lora_B: shape \(2, 4\)"),
    ],
)
def test_bad_tensors(tensors: dict[str, tuple[torch.Tensor, torch.Tensor]], message: str) -> None:
    layout = LoraLayout((LoraModule("a", 4, 3), LoraModule("b", 4, 3)), 2)
    with pytest.raises(BadParameter, match=message):
        layout.flatten(tensors)


def test_bad_layouts(layout: LoraLayout) -> None:
    with pytest.raises(BadParameter, match=f"{layout.size}"):
        layout.views(torch.zeros(layout.size + 1))
    with pytest.raises(BadParameter, match="rank is 0"):
        LoraLayout(layout.modules, 0)
    with pytest.raises(BadParameter, match="at least one"):
        LoraLayout((), 2)
    with pytest.raises(BadParameter, match="names must differ"):
        LoraLayout(layout.modules * 2, 2)
    for value in (None, {}, {"rank": 2, "modules": [{"name": "a"}]}, {"rank": 0, "modules": []}):
        with pytest.raises(BadFile, match=r"here\.json: not a LoRA layout"):
            LoraLayout.from_json(value, "here.json")
