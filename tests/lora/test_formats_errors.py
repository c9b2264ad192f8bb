"""What diffusers and peft take in silence is an error in peft's and kohya's format too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from difflora.errors import BadFile
from difflora.lora import LoraLayout, LoraWeights
from difflora.lora.formats import LoraFile, LoraFormat

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Names:
    """Keys of the first self-attention's query in a format."""

    query: str
    down: str
    up: str

    @property
    def A(self) -> str:  # noqa: N802
        return self.query + self.down

    @property
    def B(self) -> str:  # noqa: N802
        return self.query + self.up

    @property
    def key(self) -> str:
        return self.query.replace("to_q", "to_k") + self.down


NAMES: dict[LoraFormat, Names] = {
    "peft": Names(
        "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        ".lora_A.weight",
        ".lora_B.weight",
    ),
    "kohya": Names(
        "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q", ".lora_down.weight", ".lora_up.weight"
    ),
}


def changed(tensor: torch.Tensor, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    return tensor


def half(tensors: Tensors, names: Names) -> Tensors:
    modules = sorted({key.partition(".lora_")[0].removesuffix(".alpha") for key in tensors})[::2]
    return {k: v for k, v in tensors.items() if k.partition(".lora_")[0].removesuffix(".alpha") in modules}


def unknown(tensors: Tensors, names: Names) -> Tensors:
    """A module that a UNet could have, but this one has not."""
    more = {key: v.clone() for key, v in tensors.items() if key.startswith(names.query)}
    return tensors | {key.replace("blocks.0.attn1", "blocks.5.attn1").replace("blocks_0_attn1", "blocks_5_attn1"): v
                      for key, v in more.items()}  # fmt: skip


CASES: dict[str, tuple[Callable[[Tensors, Names], Tensors], str]] = {
    "nan": (lambda t, n: t | {n.A: changed(t[n.A], torch.nan)}, "{A} holds NaN or Inf"),
    "inf": (lambda t, n: t | {n.B: changed(t[n.B], torch.inf)}, "{B} holds NaN or Inf"),
    "half": (half, "is missing; the file has {count} of {all} modules"),
    "lone": (lambda t, n: {key: v for key, v in t.items() if key != n.B}, "{B} is missing"),
    "unknown": (unknown, "is unknown: the layout has no such module"),
    "prefix": (lambda t, n: {f"transformer.{key}": v for key, v in t.items()}, "is unknown|neither"),
    "text": (lambda t, n: t | {"lora_te1_x.lora_down.weight": torch.ones(1)}, "lora_te1_x.lora_down.weight belongs to"),
    "empty": (lambda t, n: {}, "holds no tensor"),
    "int32": (lambda t, n: t | {n.A: t[n.A].int()}, "{A} is torch.int32"),
    "shape": (lambda t, n: t | {n.A: t[n.A][:, 1:].clone()}, "{A} has shape"),
    "rank": (lambda t, n: t | {n.A: t[n.A][1:].clone()}, "{A} has shape"),
    "scale": (lambda t, n: t | {n.A: t[n.A] * 1e4, n.B: t[n.B] * 1e4}, "{B} times its {end} changes the weight by"),
    "dora": (lambda t, n: t | {f"{n.query}.dora_scale": torch.ones(3)}, "only plain LoRAs are read"),
}


@pytest.fixture(params=["peft", "kohya"])
def lora_format(request: pytest.FixtureRequest) -> LoraFormat:
    chosen: LoraFormat = request.param
    return chosen


@pytest.fixture
def file(weights: LoraWeights, tmp_path: Path, lora_format: LoraFormat) -> Path:
    """Ours, in that format: its safetensors file."""
    path = tmp_path / ("adapter" if lora_format == "peft" else "kohya.safetensors")
    weights.save(path, torch.float32, lora_format)
    return LoraFile.open(path).path


def rewrite(path: Path, change: Callable[[Tensors], Tensors], keep: bool = False) -> None:
    with safe_open(path, framework="pt") as opened:
        metadata = dict(opened.metadata())
    save_file(change(load_file(path)), path, metadata if keep else None)


@pytest.mark.parametrize("case", CASES)
def test_what_others_take_in_silence(file: Path, layout: LoraLayout, lora_format: LoraFormat, case: str) -> None:
    change, message = CASES[case]
    names = NAMES[lora_format]
    rewrite(file, lambda tensors: change(tensors, names))
    with pytest.raises(BadFile) as raised:
        LoraWeights.load(file, layout)
    said = str(raised.value)
    assert said.startswith(f"{file}: ")
    assert "\n" not in said
    count = len(layout.modules)
    values = {"A": names.A, "B": names.B, "end": names.down.split(".")[1], "count": (count + 1) // 2, "all": count}
    assert any(option.format(**values) in said for option in message.split("|")), said
    if case != "shape" and not (case in ("half", "unknown") and lora_format == "kohya"):  # which no file alone can tell
        with pytest.raises(BadFile):
            LoraWeights.load(file)


def test_our_files_tell_any_change(file: Path, lora_format: LoraFormat) -> None:
    names = NAMES[lora_format]
    original = file.read_bytes()
    for change in (
        lambda t: t | {names.A: t[names.key], names.key: t[names.A]},  # swapped between q and k
        lambda t: t | {names.A: changed(t[names.A], 0.5)},
        lambda t: half(t, names),
    ):
        file.write_bytes(original)
        rewrite(file, change, keep=True)
        with pytest.raises(BadFile, match=r"is not the tensor that was written|is missing"):
            LoraWeights.load(file)
    file.write_bytes(original[:-9])
    with pytest.raises(BadFile, match="not a readable safetensors file"):
        LoraWeights.load(file)


@pytest.mark.parametrize("lora_format", ["kohya"], indirect=True)
def test_alphas_of_kohya_are_checked(file: Path, layout: LoraLayout) -> None:
    query = NAMES["kohya"].query
    key = f"{query}.alpha"
    original = file.read_bytes()
    for change, keep, message in (
        (lambda t: {k: v for k, v in t.items() if k != key}, False, f"{key} is missing"),
        (lambda t: t | {key: torch.tensor(torch.nan)}, False, f"{key}.* NaN"),
        (lambda t: t | {key: torch.tensor(-1.0)}, False, f"{key} is -1.0; it must be one positive"),
        (lambda t: t | {key: torch.ones(2)}, False, "it must be one positive number"),
        (lambda t: t | {key: torch.tensor(3.0)}, False, "only LoRAs of one alpha are read"),
        (lambda t: t | {key: torch.tensor(3.0)}, True, f"{key} is not the tensor"),
        (lambda t: {k: v for k, v in t.items() if not k.endswith(".alpha")}, True, "alpha is missing"),
        (
            lambda t: t | {"lora_unet_down_blocks_1_attentions_0_proj_in" + k[len(query) :]: v.clone()
                           for k, v in t.items() if k.startswith(query)},
            False,
            "lora_unet_down_blocks_1_attentions_0_proj_in.* belongs to no UNet.* by the original code's names",
        ),
    ):  # fmt: skip
        file.write_bytes(original)
        rewrite(file, change, keep)
        with pytest.raises(BadFile, match=message):
            LoraWeights.load(file, layout)


@pytest.mark.parametrize("lora_format", ["peft"], indirect=True)
def test_settings_of_peft_are_checked(file: Path, layout: LoraLayout) -> None:
    config = file.with_name("adapter_config.json")
    original = json.loads(config.read_text())
    first, last = layout.modules[0].name, layout.modules[-1].name
    changes: list[tuple[dict[str, Any], str]] = [
        ({"r": 4}, "r is 4, the tensors have rank 3"),
        ({"lora_alpha": 3}, "lora_alpha is 3, 7.5 in"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["conv_in"]}, "modules_to_save is"),
        ({"target_modules": original["target_modules"][1:]}, f"does not name {first}"),
        ({"target_modules": [*original["target_modules"], "up_blocks.7.x"]}, "names up_blocks.7.x, which the file has"),
        ({"target_modules": r"mid_block\..*"}, f"does not name {first}"),
        ({"target_modules": "("}, "no regular expression"),
        ({"target_modules": 3}, "it must be a list of names"),
    ]
    for change, message in changes:
        config.write_text(json.dumps(original | change))
        with pytest.raises(BadFile, match=message) as raised:
            LoraWeights.load(file.parent)
        assert str(raised.value).startswith(str(config))
    for targets in (".*", "all-linear", sorted({m.name.rpartition(".")[2] for m in layout.modules})):
        config.write_text(json.dumps(original | {"target_modules": targets}))
        assert LoraWeights.load(file.parent).layout.modules[-1].name == last
    config.unlink()
    with pytest.raises(BadFile, match=r"adapter_config\.json: no such file"):
        LoraWeights.load(file.parent)
    file.rename(file.with_name("adapter_model.bin"))
    with pytest.raises(BadFile, match=r"adapter_model\.bin: a pickle, which is never opened"):
        LoraWeights.load(file.parent)
    with pytest.raises(BadFile, match="no LoRA here"):
        LoraWeights.load(file.parent.parent)


def test_settings_in_diffusers_files_agree_with_our_record(saved: Path) -> None:
    with safe_open(saved, framework="pt") as opened:
        metadata = dict(opened.metadata())
    del metadata["lora_adapter_metadata"]
    save_file(load_file(saved), saved, metadata)
    with pytest.raises(BadFile, match=r"its readers take alpha for 3 where 7\.5 was written"):
        LoraWeights.load(saved)
