from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from difflora.errors import BadFile, BadParameter
from difflora.lora import BaseModelId, LoraLayout, LoraWeights

BASE = BaseModelId(name="embedded/base")

FIRST = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight"
FIRST_B = FIRST.replace("lora_A", "lora_B")
CONVOLUTION = "unet.down_blocks.0.resnets.0.conv1.lora_A.weight"


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def drop_half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = sorted({key.partition(".lora_")[0] for key in tensors})[::2]
    return {key: tensor for key, tensor in tensors.items() if key.partition(".lora_")[0] in names}


def swap(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    other = FIRST.replace("to_q", "to_k")
    return tensors | {FIRST: tensors[other], other: tensors[FIRST]}


def with_nan(tensor: torch.Tensor, value: float = torch.nan) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[-1] = value
    return changed


# What diffusers and peft take in silence.
SILENT = {
    "nan": (lambda t: t | {FIRST: with_nan(t[FIRST])}, rf"{FIRST} holds NaN or Inf"),
    "inf": (lambda t: t | {CONVOLUTION: with_nan(t[CONVOLUTION], torch.inf)}, rf"{CONVOLUTION} holds NaN or Inf"),
    "half": (drop_half, r"lora_A\.weight is missing; the file has \d+ of \d+ modules"),
    "lone": (lambda t: {key: v for key, v in t.items() if key != FIRST_B}, rf"{FIRST_B} is missing, its other half"),
    "unknown": (
        lambda t: t | {key.replace("attn1", "attn9"): t[key].clone() for key in (FIRST, FIRST_B)},
        r"attn9\.to_q\.lora_A\.weight is unknown",
    ),
    "prefix": (lambda t: {key.replace("unet", "transformer"): v for key, v in t.items()}, "transformer.* is unknown"),
    "text": (
        lambda t: t | {"text_encoder.x.lora_A.weight": torch.ones(1)},
        "text_encoder.x.lora_A.weight belongs to no",
    ),
    "empty": (lambda t: {}, "holds no tensor"),
    "int32": (lambda t: t | {FIRST: t[FIRST].int()}, rf"{FIRST} is torch\.int32"),
    "shape": (lambda t: t | {FIRST: t[FIRST][:, 1:].clone()}, rf"{FIRST} has shape \(3, \d+\) where"),
    "rank": (lambda t: t | {FIRST: t[FIRST][1:].clone()}, rf"{FIRST} has shape \(2, \d+\) where"),
    "scale": (
        lambda t: t | {FIRST: t[FIRST] * 1e4, FIRST_B: t[FIRST_B] * 1e4},
        rf"{FIRST_B} times its lora_A changes the weight by more than 10\.0",
    ),
    "dora": (lambda t: t | {FIRST.replace("A.weight", "magnitude"): torch.ones(3)}, "is neither a lora_A.weight nor"),
    "mixed": (lambda t: t | {"lora_unet_mid_block_x.alpha": torch.ones(())}, "belongs to no UNet, whose keys start"),
}


@pytest.mark.parametrize("case", SILENT)
def test_what_diffusers_takes_in_silence_is_an_error(plain: Path, layout: LoraLayout, case: str) -> None:
    change, message = SILENT[case]
    save_file(change(load_file(plain)), plain)
    with pytest.raises(BadFile, match=message) as raised:
        LoraWeights.load(plain, layout)
    assert str(raised.value).startswith(f"{plain}: ")


def test_a_wrong_prefix_without_a_layout(plain: Path) -> None:
    save_file(SILENT["prefix"][0](load_file(plain)), plain)
    with pytest.raises(BadFile, match=r"transformer\..* belongs to no UNet; expected are 'unet\.'"):
        LoraWeights.load(plain)


@pytest.mark.parametrize("case", sorted(set(SILENT) - {"half", "unknown", "shape"}))
def test_most_of_it_also_without_a_layout(plain: Path, case: str) -> None:
    save_file(SILENT[case][0](load_file(plain)), plain)
    with pytest.raises(BadFile):
        LoraWeights.load(plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, r"attn1\.to_[kq]\.lora_A\.weight is not the tensor that was written"),
        (lambda t: t | {FIRST: with_nan(t[FIRST], 0.5)}, rf"{FIRST} is not the tensor"),
        (drop_half, "is missing"),
        (SILENT["scale"][0], rf"{FIRST}|{FIRST_B}"),
    ],
)
def test_our_files_tell_any_change(saved: Path, change: Any, message: str) -> None:
    metadata = metadata_of(saved)
    save_file(change(load_file(saved)), saved, metadata)
    with pytest.raises(BadFile, match=message):
        LoraWeights.load(saved)


def test_our_record_is_checked(saved: Path, weights: LoraWeights) -> None:
    metadata, tensors = metadata_of(saved), load_file(saved)
    own = json.loads(metadata["difflora"])
    for change, message in [
        ({"format": 2}, r"difflora\.format"),
        ({"alpha": None}, r"difflora\.alpha"),
        ({"alpha": 1e9}, "changes the weight by more"),
        ({"scale": 1e6}, "scale is 1000000"),
        ({"layout": {"rank": 3}}, "not a LoRA layout"),
        ({"layout_digest": "0" * 64}, "does not have the digest"),
        ({"base": {"name": ""}}, r"difflora\.base\.name"),
        ({"extra": 1}, r"difflora\.extra"),
    ]:
        save_file(tensors, saved, metadata | {"difflora": json.dumps(own | change)})
        with pytest.raises(BadFile, match=message):
            LoraWeights.load(saved)
    save_file(tensors, saved, metadata | {"difflora": "{"})
    with pytest.raises(BadFile, match="difflora: Invalid JSON"):
        LoraWeights.load(saved)


def test_the_wrong_base_or_layout_names_both(saved: Path, weights: LoraWeights) -> None:
    assert weights.base is not None
    with pytest.raises(BadFile, match="base model 'embedded/base' where 'sdxl' is needed"):
        LoraWeights.load(saved, base=BaseModelId(name="sdxl"))
    with pytest.raises(BadFile, match=f"{weights.base.config_sha256} of 'embedded/base' where {'0' * 64}"):
        LoraWeights.load(saved, base=BaseModelId(name=BASE.name, config_sha256="0" * 64))
    assert LoraWeights.load(saved, base=BASE).base == weights.base
    other = LoraLayout(weights.layout.modules[::-1], weights.layout.rank)
    with pytest.raises(BadFile, match=f"layout {weights.layout.digest} where {other.digest} is needed"):
        LoraWeights.load(saved, other)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("[]", "no JSON object"),
        ("{", "is not JSON"),
        ({"unet.r": 4, "unet.lora_alpha": 4}, "r is 4, the tensors have rank 3"),
        ({"unet.r": 3, "unet.lora_alpha": -1}, "lora_alpha is -1"),
        ({"unet.r": 3, "unet.lora_alpha": 3, "unet.alpha_pattern": {"to_q": 9}}, "alpha_pattern is"),
        ({"unet.r": 3, "unet.lora_alpha": 3, "unet.use_rslora": True}, "use_rslora is True"),
    ],
)
def test_settings_of_others_are_checked(plain: Path, record: Any, message: str) -> None:
    text = record if isinstance(record, str) else json.dumps(record)
    save_file(load_file(plain), plain, {"lora_adapter_metadata": text})
    with pytest.raises(BadFile, match=message):
        LoraWeights.load(plain)


def test_ranks_must_be_one(plain: Path) -> None:
    tensors = load_file(plain)
    tensors |= {FIRST: tensors[FIRST][1:].clone(), FIRST_B: tensors[FIRST_B][:, 1:].clone()}
    save_file(tensors, plain)
    with pytest.raises(BadFile, match="one rank is read"):
        LoraWeights.load(plain)


def test_unreadable_files_are_never_unpickled(tmp_path: Path, saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-7])
    with pytest.raises(BadFile, match="not a readable safetensors"):
        LoraWeights.load(saved)
    torch.save({"unet.x": torch.ones(1)}, tmp_path / "pickle.safetensors")
    with pytest.raises(BadFile, match="not a readable safetensors"):
        LoraWeights.load(tmp_path / "pickle.safetensors")
    with pytest.raises(BadFile, match="no such file"):
        LoraWeights.load(tmp_path / "none.safetensors")


def test_bad_weights_are_not_made_or_stored(weights: LoraWeights, tmp_path: Path) -> None:
    layout, flat = weights.layout, weights.flat
    for change, message in [
        ({"flat": flat[1:]}, str(layout.size)),
        ({"flat": flat[None]}, "one floating vector"),
        ({"flat": flat.int()}, "one floating vector"),
        ({"flat": flat * torch.nan}, "not finite"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"alpha": torch.nan}, "alpha is nan"),
        ({"scale": 1e3}, "scale is 1000"),
    ]:
        with pytest.raises(BadParameter, match=message):
            LoraWeights(**({"layout": layout, "flat": flat, "base": None, "alpha": 3.0} | change))
    with pytest.raises(BadParameter, match="ends in"):
        weights.save(tmp_path / "person.bin")
    with pytest.raises(BadParameter, match="is stored as"):
        weights.save(tmp_path / "person.safetensors", torch.float64)
    for factor, message in ((1e7, "too large for torch.float16"), (1e3, "by more than 10.0")):
        strong = LoraWeights(layout, flat * factor, None, alpha=3.0)
        with pytest.raises(BadParameter, match=message):
            strong.save(tmp_path / "person.safetensors")
    assert not list(tmp_path.iterdir())
