"""A learnt start: what it learns, that it goes on after a kill, and that LoRAs really start there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.corpus import start as start_module
from difflora.corpus.base import FrozenBase
from difflora.corpus.dreambooth import train_people
from difflora.corpus.latents import Encoded
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings
from difflora.corpus.start import (
    LearntStart,
    StartSettings,
    initial_flat,
    learn_start,
    of_folder,
    read_start,
    save_start,
)
from difflora.errors import BadFile, BadParameter, DiffLoRAError
from difflora.lora import LoraLayout

SETTINGS = DreamBoothSettings(rank=2, steps=6, batch_size=2, lr=1e-2, weight_decay=0, seed=7)
HOW = StartSettings(episodes=4, people_at_once=2, lr=1e-2)
MakeEncoded = Callable[..., list[Encoded]]


def _layout(base: FrozenBase, rank: int = 2) -> LoraLayout:
    return LoraLayout.from_unet(base.unet, SETTINGS.targets, rank)


def _source(made: Sequence[Encoded], at_once: int = 2) -> Callable[[int], list[Encoded]]:
    return lambda episode: [made[(episode * at_once + place) % len(made)] for place in range(at_once)]


def _learn(base: FrozenBase, made: Sequence[Encoded], checkpoint: Path, **how: Any) -> LearntStart:
    chosen = HOW.model_copy(update=how)
    source = _source(made)
    return learn_start(base, _layout(base), source, SETTINGS, chosen, checkpoint=checkpoint, progress=False)


def _b_only(base: FrozenBase, made: Sequence[Encoded], start: Path | None) -> Tensor:
    settings = SETTINGS.model_copy(update={"freeze_a": True, "start": start})
    return train_people(base, _layout(base), made, settings).final_loss


def test_loras_of_other_people_get_further_from_it(base: FrozenBase, make_encoded: MakeEncoded, tmp_path: Path) -> None:
    made = make_encoded(6)
    learnt = _learn(base, made[:4], tmp_path, episodes=24, lr=3e-2)
    save_start(tmp_path / "start.safetensors", learnt, _layout(base), base.name, 1.0)
    random, own = _b_only(base, made[4:], None), _b_only(base, made[4:], tmp_path / "start.safetensors")
    assert (own < random).all(), (own, random)
    layout = _layout(base)
    of_a, of_b = layout.factor_places
    assert learnt.flat[of_b].abs().max() == 0
    before = initial_flat(layout, SETTINGS.seed)[of_a]
    assert (learnt.flat[of_a] - before).norm() > 0.05 * before.norm()


def test_a_kill_between_episodes_changes_nothing(
    base: FrozenBase, make_encoded: MakeEncoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_encoded(4)
    whole = _learn(base, made, tmp_path / "whole")
    real, done = start_module._episode, []

    def killed(*arguments: Any) -> float:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(None)
        return real(*arguments)

    monkeypatch.setattr(start_module, "_episode", killed)
    with pytest.raises(KeyboardInterrupt):
        _learn(base, made, tmp_path / "cut")
    monkeypatch.setattr(start_module, "_episode", real)
    resumed = _learn(base, made, tmp_path / "cut")
    assert torch.equal(resumed.flat, whole.flat)
    assert resumed.losses == whole.losses
    _learn(base, made, tmp_path / "cut", lr=1e-3)  # of other settings: a checkpoint of its own
    assert len(list((tmp_path / "cut").glob("start-*.safetensors"))) == 2


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


def test_people_of_a_folder_come_in_turn(
    base: FrozenBase, make_people: Callable[..., PeopleFolder], tmp_path: Path
) -> None:
    people = make_people(tmp_path, 9, images=2)
    train = [one for one in people.ids if people.line(one)["split"] == "train"]
    assert 2 <= len(train) < 9
    source = of_folder(base, people, SETTINGS, StartSettings(people_at_once=2))
    asked = [one.identity for episode in range(len(train)) for one in source(episode)]
    assert asked == train * 2
    with pytest.raises(BadParameter, match=f"has {len(train)} people of the split train, an episode takes 99"):
        of_folder(base, people, SETTINGS, StartSettings(people_at_once=99))


def test_nobody_and_a_loss_that_is_no_number(base: FrozenBase, make_encoded: MakeEncoded, tmp_path: Path) -> None:
    layout = _layout(base)
    with pytest.raises(BadParameter, match="episode 0 has nobody"):
        learn_start(base, layout, lambda _: [], SETTINGS, HOW, checkpoint=tmp_path, progress=False)
    made = make_encoded(2)
    made[0].latents[:] = torch.nan
    with pytest.raises(DiffLoRAError, match="loss of episode 0 is nan"):
        _learn(base, made, tmp_path)
    assert not list(tmp_path.glob("start-*"))


def test_the_start_is_pefts_and_shared(base: FrozenBase) -> None:
    layout = _layout(base)
    start = initial_flat(layout, 3)
    for name, (lora_a, lora_b) in layout.views(start).items():
        assert lora_b.abs().max() == 0, name
        assert 0.8 < float(lora_a.abs().max()) * lora_a.shape[-1] ** 0.5 <= 1, name
    assert torch.equal(start, initial_flat(layout, 3))
    assert not torch.equal(start, initial_flat(layout, 4))
