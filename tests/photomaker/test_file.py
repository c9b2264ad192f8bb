from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from difflora.errors import BadFile, BadParameter
from difflora.photomaker.file import PhotoMakerFile, file_digest

_LORA = "lora_weights.unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora"
_FC = "id_encoder.fuse_module.mlp1.fc1.weight"


def _change(key: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({key: value(tensors[key])})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(_FC), f"{_FC} is missing"),
        (lambda t: t.pop("id_encoder.visual_projection_2.weight"), "visual_projection_2.weight is missing"),
        (lambda t: t.update({"id_encoder.more.weight": torch.ones(1)}), "id_encoder.more.weight is not of"),
        (lambda t: t.update({"more.weight": torch.ones(1)}), "more.weight is neither of"),
        (
            _change(_FC, lambda x: x[:, 1:].contiguous()),
            rf"{_FC} is torch.float16 \(40, 79\) where floating \(40, 80\)",
        ),
        (_change(_FC, lambda x: x * torch.nan), f"{_FC} holds NaN"),
        (_change(_FC, lambda x: x.int()), f"{_FC} is torch.int32"),
        (lambda t: t.pop(f"{_LORA}.down.weight"), rf"{_LORA}.down.weight is missing, its other half"),
        (lambda t: t.update({"lora_weights.unet.x.lora_A.weight": torch.ones(1, 1)}), "lora_A.weight is not of"),
        (_change(f"{_LORA}.up.weight", lambda x: x * torch.inf), "holds NaN or Inf"),
    ],
)
def test_a_wrong_key_is_named(kept: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    tensors = load_file(kept)
    change(tensors)
    save_file(tensors, tmp_path / "wrong.safetensors")
    with pytest.raises(BadFile, match=rf"wrong.safetensors: .*{said}"):
        PhotoMakerFile.open(tmp_path / "wrong.safetensors")


@pytest.mark.parametrize("read", [PhotoMakerFile.open, file_digest])
def test_a_cut_file_is_named(kept: Path, tmp_path: Path, read: Callable[[Path], object]) -> None:
    for length in (3, 500, kept.stat().st_size - 10):
        (tmp_path / "cut.safetensors").write_bytes(kept.read_bytes()[:length])
        with pytest.raises(BadFile, match=r"cut.safetensors: not a readable safetensors file"):
            read(tmp_path / "cut.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors", {"difflora": '{"heads": "many"}'})
    with pytest.raises(BadFile, match=r"other.safetensors: its header is no PhotoMaker v1's"):
        read(tmp_path / "other.safetensors")


def test_a_pickle_is_never_opened(kept: Path, file: PhotoMakerFile) -> None:
    with pytest.raises(BadFile, match=r"photomaker-v1.bin: only .safetensors is read; .*difflora weights convert"):
        PhotoMakerFile.open(kept.with_suffix(".bin"))
    with pytest.raises(BadParameter, match=r"kept as \.safetensors"):
        file.save(kept.with_suffix(".bin"))


def test_a_lora_of_another_unet_is_named(file: PhotoMakerFile, pipeline: Any) -> None:
    from tests.tiny import sdxl

    with pytest.raises(BadFile, match=r"photomaker-v1.safetensors: lora_weights.unet.* where .* is needed|is unknown"):
        file.lora_for(sdxl().unet)
    assert file.lora_for(pipeline.unet).layout.rank == 4


def test_heads_of_another_width_travel_with_the_file(file: PhotoMakerFile, tmp_path: Path) -> None:
    assert file.encoder().config.num_attention_heads == 1
    PhotoMakerFile(file.id_encoder, file.lora, heads=4).save(tmp_path / "four.safetensors")
    again = PhotoMakerFile.open(tmp_path / "four.safetensors")
    assert again.encoder().config.num_attention_heads == 4
