"""Learning a start: what it is worth to other people, and that it goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.corpus import start_learning
from difflora.corpus.base import FrozenBase
from difflora.corpus.dreambooth import train_people
from difflora.corpus.latents import Encoded
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings
from difflora.corpus.start import initial_flat
from difflora.corpus.start_learning import LearntStart, StartSettings, learn_start, of_folder, save_start
from difflora.errors import BadParameter, DiffLoRAError
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
    real, done = start_learning._episode, []

    def killed(*arguments: Any) -> float:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(None)
        return real(*arguments)

    monkeypatch.setattr(start_learning, "_episode", killed)
    with pytest.raises(KeyboardInterrupt):
        _learn(base, made, tmp_path / "cut")
    monkeypatch.setattr(start_learning, "_episode", real)
    resumed = _learn(base, made, tmp_path / "cut")
    assert torch.equal(resumed.flat, whole.flat)
    assert resumed.losses == whole.losses
    _learn(base, made, tmp_path / "cut", lr=1e-3)  # of other settings: a checkpoint of its own
    assert len(list((tmp_path / "cut").glob("start-*.safetensors"))) == 2


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
