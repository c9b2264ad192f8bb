from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from difflora.errors import BadFile, BadParameter
from difflora.lora import BaseModelId, LoraLayout, LoraMerger, LoraModule, LoraWeights

BASE = BaseModelId(name="embedded/base")


def test_saved_and_read(saved: Path, weights: LoraWeights) -> None:
    again = LoraWeights.load(saved, weights.layout, weights.base)
    assert torch.equal(again.flat, weights.flat)
    for name in ("layout", "base", "alpha", "scale", "trigger_prompt", "provenance"):
        assert getattr(again, name) == getattr(weights, name), name
    assert LoraWeights.load(saved).layout == weights.layout
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_float16_is_the_default(weights: LoraWeights, tmp_path: Path) -> None:
    weights.save(tmp_path / "a.safetensors")
    weights.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert torch.equal(LoraWeights.load(tmp_path / "a.safetensors").flat, weights.flat.half())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_diffusers_merges_the_file_to_the_same_weights(
    pipeline: StableDiffusionXLPipeline,
    weights: LoraWeights,
    tmp_path: Path,
    inputs: dict[str, Any],
    dtype: torch.dtype,
) -> None:
    path = tmp_path / "person.safetensors"
    weights.save(path, dtype)
    own = copy.deepcopy(pipeline.unet)
    LoraMerger(own, weights.layout).merge(LoraWeights.load(path))
    pipeline.load_lora_weights(path)
    config = next(iter(pipeline.unet.peft_config.values()))
    assert (config.r, config.lora_alpha) == (3, 7.5)
    changed = {name for name, module in pipeline.unet.named_modules() if hasattr(module, "lora_A")}
    assert changed == {module.name for module in weights.layout.modules}
    with torch.no_grad():
        torch.testing.assert_close(pipeline.unet(**inputs).sample, own(**inputs).sample, rtol=1e-4, atol=1e-4)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    theirs, ours = pipeline.unet.state_dict(), own.state_dict()
    assert set(theirs) == set(ours)
    for name, tensor in ours.items():
        torch.testing.assert_close(
            theirs[name], tensor, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_alpha_of_a_whole_number_is_one_for_peft(weights: LoraWeights, tmp_path: Path) -> None:
    path = tmp_path / "person.safetensors"
    LoraWeights(weights.layout, weights.flat, None, alpha=6.0).save(path)
    adapter = json.loads(safe_open(path, framework="pt").metadata()["lora_adapter_metadata"])
    assert adapter["unet.lora_alpha"] == 6
    assert isinstance(adapter["unet.lora_alpha"], int)
    assert LoraWeights.load(path).base is None


def test_files_of_diffusers_are_read(unet: UNet2DConditionModel, layout: LoraLayout, tmp_path: Path) -> None:
    unet.add_adapter(
        LoraConfig(r=3, lora_alpha=5, init_lora_weights=False, target_modules=[m.name for m in layout.modules])
    )
    state = get_peft_model_state_dict(unet, adapter_name="default")
    record = {key: list(v) if isinstance(v, set) else v for key, v in unet.peft_config["default"].to_dict().items()}
    unet.save_lora_adapter(tmp_path / "unet")
    StableDiffusionXLPipeline.save_lora_weights(
        tmp_path / "pipe", unet_lora_layers=state, unet_lora_adapter_metadata=record
    )
    StableDiffusionXLPipeline.save_lora_weights(tmp_path / "bare", unet_lora_layers=state)
    for folder, alpha in (("unet", 5.0), ("pipe", 5.0), ("bare", 3.0)):
        read = LoraWeights.load(tmp_path / folder / "pytorch_lora_weights.safetensors", layout, BASE)
        assert read.alpha == alpha
        assert read.base == BASE
        name = layout.modules[-1].name
        expected = state[f"{name}.lora_A.weight"]
        assert torch.equal(read.tensors()[name][0].reshape(expected.shape), expected)


def test_files_of_peft_need_their_settings(plain: Path, tmp_path: Path, layout: LoraLayout) -> None:
    path = tmp_path / "adapter_model.safetensors"
    save_file({key.replace("unet.", "base_model.model."): tensor for key, tensor in load_file(plain).items()}, path)
    with pytest.raises(BadFile, match=r"adapter_config\.json"):
        LoraWeights.load(path, layout)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 3, "lora_alpha": 12}))
    assert LoraWeights.load(path, layout).alpha == 12


def test_a_layout_is_inferred_from_shapes(plain: Path, weights: LoraWeights) -> None:
    read = LoraWeights.load(plain)
    assert set(read.layout.modules) == set(weights.layout.modules)
    assert read.alpha == read.layout.rank == 3
    for name, pair in weights.tensors().items():
        assert torch.equal(read.tensors()[name][0], pair[0])
        assert torch.equal(read.tensors()[name][1], pair[1])
    assert torch.equal(LoraWeights.load(plain, weights.layout).flat, weights.flat)


def test_natural_order_of_inferred_modules(tmp_path: Path) -> None:
    names = ["down_blocks.2.x", "down_blocks.10.x", "mid_block.x"]
    tensors = {
        f"unet.{name}.{half}.weight": torch.full((2, 2), 0.1) for name in names[::-1] for half in ("lora_A", "lora_B")
    }
    save_file(tensors, tmp_path / "a.safetensors")
    layout = LoraWeights.load(tmp_path / "a.safetensors").layout
    assert layout == LoraLayout(tuple(LoraModule(name, 2, 2) for name in names), 2)


def test_the_hash_of_a_configuration(unet: UNet2DConditionModel, tmp_path: Path, sdxl: UNet2DConditionModel) -> None:
    unet.save_pretrained(tmp_path)
    again = BaseModelId.of(BASE.name, UNet2DConditionModel.from_pretrained(tmp_path))
    assert again == BaseModelId.of(BASE.name, unet)
    assert again.config_sha256 != BaseModelId.of(BASE.name, sdxl).config_sha256
    with pytest.raises(BadParameter, match="has no config"):
        BaseModelId.of("x", torch.nn.Linear(1, 1))
