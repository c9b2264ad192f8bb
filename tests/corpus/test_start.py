"""Where LoRAs start: peft's draw, a file, and A kept as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from difflora.corpus.base import FrozenBase
from difflora.corpus.dreambooth import train_people
from difflora.corpus.latents import Encoded
from difflora.corpus.settings import DreamBoothSettings
from difflora.corpus.start import initial_flat, read_start
from difflora.corpus.start_learning import LearntStart, save_start
from difflora.errors import BadFile
from difflora.lora import LoraLayout

SETTINGS = DreamBoothSettings(rank=2, steps=6, batch_size=2, lr=1e-2, weight_decay=0, seed=7)
MakeEncoded = Callable[..., list[Encoded]]


def _layout(base: FrozenBase, rank: int = 2) -> LoraLayout:
    return LoraLayout.from_unet(base.unet, SETTINGS.targets, rank)


def test_frozen_a_stays_to_the_bit_and_b_moves(base: FrozenBase, make_encoded: MakeEncoded) -> None:
    layout, made = _layout(base), make_encoded(3)
    settings = SETTINGS.model_copy(update={"freeze_a": True, "weight_decay": 0.1})
    flat = train_people(base, layout, made, settings).flat
    of_a, of_b = layout.factor_places
    start = initial_flat(layout, SETTINGS.seed)
    assert torch.equal(flat[:, of_a], start[of_a].expand(3, -1))
    assert (flat[:, of_b].abs().amax(1) > 1e-3).all()
    assert not torch.equal(flat[0], flat[1])


def test_its_file_is_read_back_and_checked(base: FrozenBase, tmp_path: Path) -> None:
    layout, path = _layout(base), tmp_path / "start.safetensors"
    flat = initial_flat(layout, 3)
    save_start(path, LearntStart(flat, [0.1], 1.0), layout, base.name, 1.0)
    assert torch.equal(read_start(path, layout, base.name, 1.0), flat)
    with pytest.raises(BadFile, match="alpha / rank 1, the LoRAs have 2"):
        read_start(path, layout, base.name, 2.0)
    with pytest.raises(BadFile, match=r"start\.safetensors: made for LoRA layout"):
        read_start(path, _layout(base, 4), base.name, 1.0)
    other = base.name.model_copy(update={"name": "another"})
    with pytest.raises(BadFile, match="another"):
        read_start(path, layout, other, 1.0)


def test_what_decides_a_lora_is_the_starts_bytes(base: FrozenBase, tmp_path: Path) -> None:
    layout = _layout(base)
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        learnt = LearntStart(initial_flat(layout, seed), [0.1], 1.0)
        save_start(tmp_path / f"{name}.safetensors", learnt, layout, base.name, 1.0)
    one, same, other = (
        DreamBoothSettings(start=tmp_path / f"{name}.safetensors").deciding for name in ("one", "same", "other")
    )
    assert one == same
    assert one != other
    assert DreamBoothSettings().deciding["start"] is None
    with pytest.raises(BadFile, match=r"gone\.safetensors: dreambooth\.start names no file"):
        _ = DreamBoothSettings(start=tmp_path / "gone.safetensors").deciding
    with pytest.raises(ValueError, match="shared_start is off, but start names"):
        DreamBoothSettings(start=tmp_path / "one.safetensors", shared_start=False)


def test_the_start_is_pefts_and_shared(base: FrozenBase) -> None:
    layout = _layout(base)
    start = initial_flat(layout, 3)
    for name, (lora_a, lora_b) in layout.views(start).items():
        assert lora_b.abs().max() == 0, name
        assert 0.8 < float(lora_a.abs().max()) * lora_a.shape[-1] ** 0.5 <= 1, name
    assert torch.equal(start, initial_flat(layout, 3))
    assert not torch.equal(start, initial_flat(layout, 4))
