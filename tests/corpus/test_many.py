from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from difflora.corpus.base import FrozenBase
from difflora.corpus.many import ManyLoras
from difflora.errors import DiffLoRAError
from difflora.lora import LoraLayout

SCALE = 0.5
ALL = ("attention", "feed_forward", "projections", "convolutions")


def _inputs(count: int, *, xl: bool, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    conditions = {"text_embeds": draw(count, 32), "time_ids": torch.full((count, 6), 64.0, dtype=dtype)}
    return {
        "sample": draw(count, 4, 8, 8),
        "timestep": torch.randint(0, 1000, (count,), generator=generator),
        "encoder_hidden_states": draw(count, 7, 48 if xl else 16),
        "added_cond_kwargs": conditions if xl else None,
    }


def _part(inputs: dict[str, Any], rows: slice) -> dict[str, Any]:
    conditions = inputs["added_cond_kwargs"]
    return {
        name: value[rows] if isinstance(value, Tensor) else {k: v[rows] for k, v in conditions.items()}
        for name, value in inputs.items()
        if value is not None
    }


def _merged(unet: nn.Module, layout: LoraLayout, flat: Tensor) -> nn.Module:
    """A copy of the UNet with one LoRA added into its weights."""
    merged = copy.deepcopy(unet)
    for module in layout.modules:
        lora_a, lora_b = layout.views(flat)[module.name]
        weight = merged.get_parameter(f"{module.name}.weight")
        weight.data += SCALE * (lora_b @ lora_a).reshape(module.weight_shape)
    return merged


@pytest.mark.parametrize("kind", ["base", "sd15"])
def test_each_sample_goes_through_its_own_persons_lora(kind: str, request: pytest.FixtureRequest) -> None:
    frozen: FrozenBase = request.getfixturevalue(kind)
    unet: Any = copy.deepcopy(frozen.unet).double()
    layout = LoraLayout.from_unet(unet, ALL, 3)
    flat = 0.1 * torch.randn(3, layout.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = _inputs(6, xl=frozen.is_xl)
    before = unet(**inputs).sample
    with torch.no_grad(), ManyLoras(unet, layout, SCALE) as loras:
        loras.set(flat)
        together = unet(**inputs).sample
    assert (together - before).abs().amax((1, 2, 3)).min() > 1e-2, "every LoRA changes the output"
    for person in range(3):
        rows = slice(2 * person, 2 * person + 2)
        alone: Any = _merged(unet, layout, flat[person])
        torch.testing.assert_close(together[rows], alone(**_part(inputs, rows)).sample, atol=1e-9, rtol=1e-9)
    assert torch.equal(unet(**inputs).sample, before), "outside the context the base is as it was"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())


@pytest.mark.parametrize("targets", [("attention",), ("convolutions",)])
def test_gradients_are_those_of_each_persons_own_weights(base: FrozenBase, targets: tuple[str, ...]) -> None:
    unet: Any = copy.deepcopy(base.unet).double()
    layout = LoraLayout.from_unet(unet, targets, 2)
    flat = 0.1 * torch.randn(2, layout.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat.requires_grad_()
    inputs = _inputs(4, xl=True)
    with ManyLoras(unet, layout, SCALE) as loras:
        loras.set(flat)
        unet(**inputs).sample.pow(2).sum().backward()
    assert all(parameter.grad is None for parameter in unet.parameters()), "the base is frozen"
    assert flat.grad is not None
    name = layout.modules[-1].name
    for person in range(2):
        merged: Any = _merged(unet, layout, flat[person].detach())
        weight = merged.get_submodule(name).weight.requires_grad_()
        rows = slice(2 * person, 2 * person + 2)
        merged(**_part(inputs, rows)).sample.pow(2).sum().backward()
        lora_a, lora_b = layout.views(flat.detach()[person])[name]
        grad_a, grad_b = layout.views(flat.grad[person])[name]
        full = weight.grad.flatten(1)  # of W + scale * B A
        torch.testing.assert_close(grad_b, SCALE * full @ lora_a.T, atol=1e-8, rtol=1e-7)
        torch.testing.assert_close(grad_a, SCALE * lora_b.T @ full, atol=1e-8, rtol=1e-7)


def test_loras_may_come_from_a_generator(base: FrozenBase) -> None:
    layout = LoraLayout.from_unet(base.unet, ("attention",), 2)
    generator = nn.Linear(3, layout.size)
    with ManyLoras(base.unet, layout, 1.0) as loras:
        loras.set(generator(torch.ones(2, 3)))
        base.unet(**_inputs(2, xl=True, dtype=torch.float32)).sample.sum().backward()
    assert generator.weight.grad is not None
    assert generator.weight.grad.abs().max() > 0


def test_mistakes_are_errors(base: FrozenBase, make_pipeline: Callable[[], Any]) -> None:
    layout = LoraLayout.from_unet(base.unet, ("attention",), 2)
    inputs = _inputs(4, xl=True, dtype=torch.float32)
    with ManyLoras(base.unet, layout, 1.0) as loras:
        with pytest.raises(DiffLoRAError, match="no LoRAs are set"):
            base.unet(**inputs)
        with pytest.raises(DiffLoRAError, match="already"), ManyLoras(base.unet, layout, 1.0):
            pass
        loras.set(torch.zeros(3, layout.size))
        with pytest.raises(DiffLoRAError, match="batch of 4 cannot be shared out to 3"):
            base.unet(**inputs)
        with pytest.raises(DiffLoRAError, match=r"\(P, D\)"):
            loras.set(torch.zeros(layout.size))
    base.unet(**inputs)


def test_a_target_that_is_never_called_is_a_dead_lora(make_pipeline: Callable[[], Any]) -> None:
    unet = make_pipeline().unet
    layout = LoraLayout.from_unet(unet, ("attention",), 2)
    attention = unet.mid_block.attentions[0].transformer_blocks[0].attn1
    attention.fuse_projections()  # q, k and v now go through one other layer
    attention.fused_projections = True
    from diffusers.models.attention_processor import FusedAttnProcessor2_0

    attention.set_processor(FusedAttnProcessor2_0())
    with ManyLoras(unet, layout, 1.0) as loras:
        loras.set(torch.zeros(2, layout.size))
        with pytest.raises(DiffLoRAError, match=r"mid_block.*attn1.to_q: never called.*3 such"):
            unet(**_inputs(2, xl=True, dtype=torch.float32))


def test_another_bases_layout_is_named(base: FrozenBase, sd15: FrozenBase) -> None:
    layout = LoraLayout.from_unet(sd15.unet, ("projections",), 2)
    with (
        pytest.raises(DiffLoRAError, match=r"proj_in: weight is \(32, 32\).*\(32, 32, 1, 1\)"),
        ManyLoras(base.unet, layout, 1.0),
    ):
        pass
    other = LoraLayout.from_unet(nn.ModuleDict({"to_q": nn.Linear(2, 2)}), ("to_q",), 1)
    with pytest.raises(DiffLoRAError, match="to_q: no such module"), ManyLoras(base.unet, other, 1.0):
        pass
