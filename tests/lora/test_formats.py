from __future__ import annotations

import copy
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from difflora.errors import BadParameter
from difflora.lora import LoraLayout, LoraMerger, LoraWeights
from difflora.lora.formats import FORMATS, LoraFile, LoraFormat
from difflora.lora.ldm_names import ldm_name

DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def save(weights: LoraWeights, folder: Path, lora_format: LoraFormat, dtype: torch.dtype = torch.float32) -> Path:
    path = folder / ("adapter" if lora_format == "peft" else f"{lora_format}.safetensors")
    weights.save(path, dtype, lora_format)
    return path


@torch.no_grad()
def output(unet: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    sample: torch.Tensor = unet(**inputs).sample
    return sample


@pytest.mark.parametrize("lora_format", FORMATS)
def test_other_loaders_draw_what_our_merge_draws(small: Any, tmp_path: Path, lora_format: LoraFormat) -> None:
    path = save(small.weights, tmp_path, lora_format)
    small.pipeline.set_progress_bar_config(disable=True)
    base = output(small.unet, small.inputs)
    with LoraMerger(small.unet, small.weights.layout) as merger:
        merger.merge(LoraWeights.load(path))
        expected, picture = output(small.unet, small.inputs), small.picture()
    assert (expected - base).abs().max() > 0.01
    if lora_format == "peft":
        twin = copy.deepcopy(small.unet)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # peft only warns of missing keys and of settings that it does not know
            loaded: Any = PeftModel.from_pretrained(small.unet, str(path))
        twin.load_lora_adapter(str(path), prefix="base_model.model", weight_name="adapter_model.safetensors")
        torch.testing.assert_close(output(twin, small.inputs), expected, rtol=1e-4, atol=1e-4)
    else:
        assert (small.picture() - picture).abs().max() > 0.01
        small.pipeline.load_lora_weights(path)
        loaded = small.unet
    torch.testing.assert_close(output(loaded, small.inputs), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(small.picture(), picture, rtol=0, atol=1e-3)  # of 1: less than half a grey level
    changed = {
        name.removeprefix("base_model.model.") for name, part in loaded.named_modules() if hasattr(part, "lora_A")
    }
    assert changed == {module.name for module in small.weights.layout.modules}


def test_comfyuis_arithmetic_gives_our_merge(small: Any, tmp_path: Path) -> None:
    """It looks for ``lora_unet_`` and the checkpoint's key with _ for each dot, and adds alpha / rank * up down."""
    tensors = load_file(save(small.weights, tmp_path, "kohya"))
    xl = small.unet.config.addition_embed_type == "text_time"
    own = copy.deepcopy(small.unet)
    LoraMerger(own, small.weights.layout).merge(small.weights)
    for module in small.weights.layout.modules:
        name = f"lora_unet_{(ldm_name(module.name, 2) if xl else module.name).replace('.', '_')}"
        down, up, alpha = (tensors.pop(name + end) for end in (DOWN, UP, ALPHA))
        assert alpha.item() == 7.5
        weight = small.unet.get_submodule(module.name).weight
        change = alpha.item() / down.shape[0] * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        torch.testing.assert_close(weight + change, own.get_submodule(module.name).weight, rtol=1e-5, atol=1e-5)
    assert not tensors


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_round_trips_are_exact(small: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    first = save(small.weights, tmp_path, "diffusers", dtype)
    lora = LoraWeights.load(first)
    for number, lora_format in enumerate(("kohya", "peft", "kohya", "diffusers")):
        folder = tmp_path / str(number)
        folder.mkdir()
        last = save(lora, folder, lora_format, dtype)
        assert LoraFile.open(last).format == lora_format
        lora = LoraWeights.load(last, small.weights.layout, small.weights.base)
        assert lora.flat.dtype == dtype
        assert torch.equal(lora.flat, small.weights.flat.to(dtype))
        for name in ("layout", "base", "alpha", "scale", "trigger_prompt", "provenance"):
            assert getattr(lora, name) == getattr(small.weights, name), name
    assert last.read_bytes() == first.read_bytes()


def test_an_alpha_that_no_float32_holds_comes_back(small: Any, tmp_path: Path) -> None:
    odd = LoraWeights(small.weights.layout, small.weights.flat, None, alpha=0.1)
    assert LoraWeights.load(save(odd, tmp_path, "kohya")).alpha == 0.1


def test_a_pipelines_adapter_in_pefts_names(small: Any, tmp_path: Path) -> None:
    path = save(small.weights, tmp_path, "peft")
    file, config = path / "adapter_model.safetensors", path / "adapter_config.json"
    tensors = load_file(file)
    save_file({key.replace("base_model.model.", "base_model.model.unet."): v for key, v in tensors.items()}, file)
    settings = json.loads(config.read_text())
    settings["target_modules"] = [f"unet.{name}" for name in settings["target_modules"]]
    config.write_text(json.dumps(settings))
    assert torch.equal(LoraWeights.load(path, small.weights.layout).flat, small.weights.flat)


@pytest.mark.parametrize("lora_format", FORMATS)
def test_files_of_others_are_read(small: Any, tmp_path: Path, lora_format: LoraFormat) -> None:
    """Without our record: the layout by shapes, the trigger from ModelSpec."""
    path = LoraFile.open(save(small.weights, tmp_path, lora_format)).path
    kept = {key: value for key, value in metadata_of(path).items() if key != "difflora"}
    save_file(load_file(path), path, kept)
    read = LoraWeights.load(path)
    assert set(read.layout.modules) == set(small.weights.layout.modules)
    assert (read.alpha, read.trigger_prompt, read.base) == (7.5, "a photo of sks person", None)
    assert torch.equal(LoraWeights.load(path, small.weights.layout).flat, small.weights.flat)


def test_kohya_without_alpha_has_that_of_its_rank(small: Any, tmp_path: Path) -> None:
    path = save(small.weights, tmp_path, "kohya")
    tensors = load_file(path)
    save_file({key: tensor for key, tensor in tensors.items() if not key.endswith(ALPHA)}, path)
    assert LoraWeights.load(path).alpha == 3
    save_file({key: torch.tensor(5) if key.endswith(ALPHA) else tensor for key, tensor in tensors.items()}, path)
    assert LoraWeights.load(path).alpha == 5  # diffusers' own converter writes integers


@pytest.mark.parametrize("lora_format", FORMATS)
def test_what_a_file_says_of_itself(small: Any, tmp_path: Path, lora_format: LoraFormat) -> None:
    path = LoraFile.open(save(small.weights, tmp_path, lora_format)).path
    found, xl = metadata_of(path), small.unet.config.addition_embed_type == "text_time"
    architecture = "stable-diffusion-xl-v1-base/lora" if xl else "stable-diffusion-v1/lora"
    original = xl and lora_format == "kohya"
    for key, value in {
        "sai_model_spec": "1.0.0",
        "architecture": architecture,
        "implementation": "https://github.com/Stability-AI/generative-models" if original else "diffusers",
        "title": "DiffLoRA for small",
        "trigger_phrase": "a photo of sks person",
        "usage_hint": 'Put "a photo of sks person" into the prompt, strength 0.8.',
    }.items():
        assert found[f"modelspec.{key}"] == value
    assert "modelspec.resolution" not in found  # a small model's is not known
    data = path.read_bytes()
    content = data[8 + int.from_bytes(data[:8], "little") :]
    assert found["modelspec.hash_sha256"] == f"0x{hashlib.sha256(content).hexdigest()}"
    if lora_format == "kohya":
        assert "lora_adapter_metadata" not in found  # diffusers refuses it beside alphas
        assert found["ss_base_model_version"] == ("sdxl_base_v1-0" if xl else "sd_v1")
        assert (found["ss_network_module"], found["ss_network_dim"]) == ("networks.lora", "3")
        assert float(found["ss_network_alpha"]) == 7.5
        assert json.loads(found["ss_network_args"]) == {"conv_dim": "3", "conv_alpha": "7.5"}
        assert "a photo of sks person" in json.loads(found["ss_tag_frequency"])["difflora"]
    if lora_format == "peft":
        config = json.loads((path.parent / "adapter_config.json").read_text())
        assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 7.5)
        assert config["base_model_name_or_path"] == "small"


def test_full_size_sdxl_in_kohyas_names(sdxl: Any, tmp_path: Path) -> None:
    layout = LoraLayout.from_unet(sdxl, ["attention"], 1)
    lora = LoraWeights(layout, torch.full((layout.size,), 0.01), None, alpha=1.0)
    path = save(lora, tmp_path, "kohya", torch.float16)
    with safe_open(path, framework="pt") as file:
        keys = set(file.keys())
        assert file.metadata()["modelspec.resolution"] == "1024x1024"
    assert len(keys) == 3 * 560
    assert "lora_unet_output_blocks_5_1_transformer_blocks_1_attn2_to_out_0.lora_up.weight" in keys
    assert LoraWeights.load(path).layout == layout


def test_where_a_format_cannot_be_written(weights: LoraWeights, sdxl: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name, lora_format, message in (
        ("mine", "peft", "holds thesis.txt, which is no adapter's"),
        ("file", "peft", "is a folder; give the name of one"),
        ("a.safetensors", "peft", "is a folder; give the name of one"),
        ("a.ckpt", "kohya", r"ends in \.safetensors"),
        ("a.safetensors", "onnx", "format is 'onnx'; give one of diffusers, peft, kohya"),
    ):
        with pytest.raises(BadParameter, match=message):
            weights.save(tmp_path / name, torch.float16, lora_format)  # type: ignore[arg-type]
    layout = LoraLayout.from_unet(sdxl, ["conv_shortcut"], 1)
    untold = LoraWeights(layout, torch.zeros(layout.size), None, alpha=1.0)
    with pytest.raises(BadParameter, match=r"a\.safetensors: kohya's format names modules by the base model's"):
        untold.save(tmp_path / "a.safetensors", torch.float16, "kohya")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]
    untold.save(tmp_path / "b.safetensors")
    assert "modelspec.architecture" not in metadata_of(tmp_path / "b.safetensors")


def test_an_older_adapter_is_replaced(weights: LoraWeights, tmp_path: Path) -> None:
    folder = save(weights, tmp_path, "peft")
    (folder / "README.md").write_text("old")
    weights.save(folder, torch.float16, "peft")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert LoraWeights.load(folder).flat.dtype == torch.float16
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
