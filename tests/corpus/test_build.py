from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from difflora.corpus.base import FrozenBase
from difflora.corpus.build import batches_of, build_corpus
from difflora.corpus.dreambooth import Trained, Trainer
from difflora.corpus.people import PeopleFolder, PeopleWriter
from difflora.corpus.reader import Corpus
from difflora.corpus.settings import DreamBoothSettings, PriorPreservation
from difflora.corpus.splits import SplitSettings, split_of
from difflora.errors import BadFile, BadParameter

SETTINGS = DreamBoothSettings(rank=2, steps=3, batch_size=2, lr=1e-2, seed=4)


def test_a_row_for_each_person_with_what_is_known_of_it(base: FrozenBase, people: PeopleFolder, tmp_path: Path) -> None:
    report = build_corpus(tmp_path, people, base, SETTINGS, people_at_once=2, rows_per_shard=2, progress=False)
    assert (report.trained, report.there, report.failed) == (5, 0, {})
    assert report.per_minute > 0
    assert 0 < report.train_seconds <= report.seconds
    corpus = Corpus.open(tmp_path)
    assert [entry.identity for entry in corpus.entries] == people.ids
    assert {entry.split for entry in corpus.entries} <= {"train", "validation", "test"}
    assert [entry.split for entry in corpus.entries] == [people.line(i)["split"] for i in people.ids]
    assert {entry.seed for entry in corpus.entries} == {4}
    assert {entry.images for entry in corpus.entries} == {5}
    assert corpus.settings["base"]["name"] == "tiny"
    assert corpus.settings["people"] == people.settings
    rows = corpus.rows(range(5))
    assert rows.isfinite().all()
    assert len({tuple(row.tolist()[:50]) for row in rows}) == 5
    again = build_corpus(tmp_path, people, base, SETTINGS, people_at_once=2, rows_per_shard=2, progress=False)
    assert (again.trained, again.there, again.train_seconds) == (0, 5, 0)


def test_more_people_are_added_to_those_who_are_there(
    base: FrozenBase, make_people: Callable[..., PeopleFolder], tmp_path: Path
) -> None:
    few = make_people(tmp_path / "people", 3, images=2)
    build_corpus(tmp_path / "corpus", few, base, SETTINGS, people_at_once=2, progress=False)
    before = Corpus.open(tmp_path / "corpus")
    rows = before.rows(range(3))
    more = make_people(tmp_path / "people", 5, images=2)
    assert more.digest == few.digest
    assert [more.line(i)["split"] for i in few.ids] == [few.line(i)["split"] for i in few.ids]
    report = build_corpus(tmp_path / "corpus", more, base, SETTINGS, people_at_once=2, progress=False)
    assert (report.trained, report.there) == (2, 3)
    after = Corpus.open(tmp_path / "corpus")
    assert after.entries[:3] == before.entries
    assert torch.equal(after.rows(range(3)), rows)


def test_only_so_many_training_people_get_a_lora(
    base: FrozenBase, make_people: Callable[..., PeopleFolder], tmp_path: Path
) -> None:
    people = make_people(tmp_path / "people", 8, images=2)
    train = people.split("train")
    assert len(train) > 2
    report = build_corpus(tmp_path / "corpus", people, base, SETTINGS, train_people=2, progress=False)
    there = [entry.identity for entry in Corpus.open(tmp_path / "corpus").entries]
    assert there == [identity for identity in people.ids if identity not in train[2:]]
    assert report.trained == len(there)
    with pytest.raises(BadParameter, match="train_people is 0"):
        build_corpus(tmp_path / "corpus", people, base, SETTINGS, train_people=0, progress=False)


def test_whoever_comes_in_gets_a_lora_beyond_that_number(people: PeopleFolder) -> None:
    train = people.split("train")
    more = people.person(train[-1])
    splits = SplitSettings(**people.settings["splits"])
    settings = {name: value for name, value in people.settings.items() if name != "splits"}
    with PeopleWriter(people.folder, settings, splits) as writer:
        numbers = (f"volunteer-{number}" for number in range(100))
        volunteer = next(name for name in numbers if split_of(name, splits) == "train")
        writer.add(replace(more, identity=volunteer), consent={"source": "herself", "record_sha256": "0" * 64})
        writer.finish()
    chosen = [one for batch in batches_of(PeopleFolder(people.folder), 4, train_people=1) for one in batch]
    assert volunteer in chosen
    assert set(train) & set(chosen) == {train[0]}


def test_other_settings_people_or_weights_are_refused(
    base: FrozenBase, people: PeopleFolder, make_people: Callable[..., PeopleFolder], tmp_path: Path
) -> None:
    build_corpus(tmp_path, people, base, SETTINGS, count=1, progress=False)
    other = SETTINGS.model_copy(update={"lr": 2e-2})
    with pytest.raises(BadParameter, match=r"dreambooth.lr = 0.01, not 0.02"):
        build_corpus(tmp_path, people, base, other, progress=False)
    weights = FrozenBase(base.pipeline, base.scheduler, base.name, "other weights")
    with pytest.raises(BadParameter, match=r'weights = "tiny weights", not "other weights"'):
        build_corpus(tmp_path, people, weights, SETTINGS, progress=False)
    with pytest.raises(BadParameter, match="people_at_once is 0"):
        build_corpus(tmp_path, people, base, SETTINGS, people_at_once=0)
    with pytest.raises(BadParameter, match="nobody"):
        build_corpus(tmp_path, make_people(tmp_path / "none", 0), base, SETTINGS)


def test_a_person_who_fails_is_listed_and_not_tried_again(
    base: FrozenBase, people: PeopleFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = Trainer.train

    def breaks_second(trainer: Trainer, encoded: Any) -> Trained:
        trained = real(trainer, encoded)
        calls.append(len(trained.flat))
        return Trained(trained.flat, trained.losses, {1: f"{people.ids[1]}: its loss became nan at step 2"})

    monkeypatch.setattr(Trainer, "train", breaks_second)
    report = build_corpus(tmp_path, people, base, SETTINGS, count=3, people_at_once=3, progress=False)
    assert report.trained == 2
    assert report.failed == {people.ids[1]: f"{people.ids[1]}: its loss became nan at step 2"}
    corpus = Corpus.open(tmp_path)
    assert [entry.identity for entry in corpus.entries] == [people.ids[0], people.ids[2]]
    assert corpus.failures() == report.failed
    again = build_corpus(tmp_path, people, base, SETTINGS, count=3, people_at_once=3, progress=False)
    assert (again.trained, again.failed, calls) == (0, {}, [3])


def test_a_damaged_person_stops_the_build_and_is_named(
    base: FrozenBase, make_people: Callable[..., PeopleFolder], tmp_path: Path
) -> None:
    people = make_people(tmp_path / "people", 3, images=2)
    path = tmp_path / "people" / "people" / f"{people.ids[2]}.safetensors"
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadFile, match=rf"{path.name}: was changed"):
        build_corpus(tmp_path / "corpus", people, base, SETTINGS, people_at_once=2, progress=False)
    assert len(Corpus.open(tmp_path / "corpus")) == 2


def test_prior_preservation_draws_each_class_once_also_after_a_kill(
    base: FrozenBase, people: PeopleFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = PriorPreservation(pictures=2, steps=2, guidance_scale=1.0)
    settings = SETTINGS.model_copy(update={"prior_preservation": prior})

    def build(name: str, *, fail_at: int | None = None) -> dict[str, bytes]:
        real, calls = Trainer.train, list[int]()

        def train(trainer: Trainer, encoded: Any) -> Trained:
            assert all(person.prior is not None for person in encoded)
            calls.append(1)
            if len(calls) == fail_at:
                raise KeyboardInterrupt
            return real(trainer, encoded)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "train", train)
            pictures = tmp_path / f"{name}-class"
            build_corpus(
                tmp_path / name, people, base, settings, people_at_once=2, class_pictures=pictures, progress=False
            )
        return {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}

    whole = build("whole")
    with pytest.raises(KeyboardInterrupt):
        build("killed", fail_at=2)
    words = {people.line(identity)["class_word"] for identity in people.ids}
    assert len(list((tmp_path / "killed-class").iterdir())) == len(words)
    with monkeypatch.context() as patched:
        patched.setattr("difflora.corpus.class_pictures.draw", None)
        assert build("killed") == whole
    plain = tmp_path / "plain"
    build_corpus(plain, people, base, SETTINGS, people_at_once=2, progress=False)
    assert not torch.equal(Corpus.open(plain).rows([0]), Corpus.open(tmp_path / "whole").rows([0]))


def test_people_of_other_sizes_are_brought_to_one(
    base: FrozenBase, make_people: Callable[..., PeopleFolder], tmp_path: Path
) -> None:
    """A corpus of people whose pictures are wide and tall."""
    few = make_people(tmp_path / "people", 2, images=2)
    with PeopleWriter(tmp_path / "mixed", {"source": "mixed"}, SplitSettings()) as writer:
        for place, identity in enumerate(few.ids):
            person = few.person(identity)
            writer.add(replace(person, images=person.images.repeat_interleave(2, dim=2 + place)))
        writer.finish()
    mixed = PeopleFolder(tmp_path / "mixed")
    assert [mixed.size(identity) for identity in mixed.ids] == [(128, 64), (64, 128)]
    with pytest.raises(BadParameter, match="or set a resolution"):
        build_corpus(tmp_path / "no", mixed, base, SETTINGS, people_at_once=2, progress=False)
    settings = SETTINGS.model_copy(update={"resolution": 64, "crop": "random"})
    assert build_corpus(tmp_path / "yes", mixed, base, settings, people_at_once=2, progress=False).trained == 2
