"""Forgetting: nothing of a person is left, nothing of anybody else changes, and a kill at any moment is mended."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from difflora.corpus.forget import forget_parts, forget_people, forget_rows
from difflora.corpus.forgotten import hash_of
from difflora.corpus.parts import Parts, TrainedBatch
from difflora.corpus.people import PeopleFolder, PeopleWriter, Person, no_boxes
from difflora.corpus.reader import Corpus
from difflora.corpus.splits import SplitSettings
from difflora.corpus.writer import CorpusWriter, NewRow
from difflora.errors import BadFile, BadParameter, DiffLoRAError
from difflora.lora import LoraLayout

LAYOUT = LoraLayout.from_unet(nn.ModuleDict({"to_q": nn.Linear(5, 7)}), ("to_q",), 2)
FLAT = torch.randn(12, LAYOUT.size, generator=torch.Generator().manual_seed(0)) + 5
NAMES = [f"person-{place}" for place in range(7)]
GONE = {hash_of("person-2"), hash_of("person-5")}
SPLITS = SplitSettings(validation=0.3, test=0.3)
SETTINGS = {"steps": 3}


def _row(place: int) -> NewRow:
    return NewRow(f"person-{place}", "train", "man", FLAT[place], 0, 1, 0.5, {"source": f"by person-{place}"})


def _person(place: int) -> Person:
    images = torch.full((2, 3, 8, 8), place, dtype=torch.uint8)
    return Person(f"person-{place}", "man", images, ["a man"] * 2, images.clone(), ["a man"] * 2, no_boxes(images))


def _make(folder: Path) -> None:
    """Seven people and their LoRAs, two of them without; another one was passed over."""
    with PeopleWriter(folder / "people", {"seed": 1}, SPLITS) as people:
        for place in range(7):
            people.add(_person(place), consent={"source": f"by person-{place}"})
        people.skip("person-8", "shows no face")
        people.finish()
    with CorpusWriter(folder / "corpus", LAYOUT, SETTINGS, rows_per_shard=2) as corpus:
        corpus.append([_row(place) for place in (0, 1, 2, 3, 4, 6)])
        corpus.fail("person-5", "person-5: its loss became nan")
        corpus.finish()
    (folder / "people" / "seen").mkdir()
    (folder / "people" / "seen" / "person-2.safetensors").write_bytes(b"a face")
    parts = Parts(folder / "parts", SETTINGS)
    parts.save(["person-2", "person-0"], TrainedBatch([_row(2), _row(0)], {}))
    parts.save(["person-5"], TrainedBatch([], {"person-5": "nan"}))
    parts.save(["person-1"], TrainedBatch([_row(1)], {}))


def _forget(folder: Path) -> None:
    forget_rows(folder / "corpus", GONE)
    forget_people(folder / "people", GONE)
    forget_parts(folder / "parts", GONE)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _make(tmp_path / "data")
    return tmp_path / "data"


def test_nothing_of_them_is_left_and_nobody_else_changes(folder: Path) -> None:
    before = _bytes(folder)
    splits = {name: PeopleFolder(folder / "people").line(name)["split"] for name in NAMES}
    _forget(folder)
    after = _bytes(folder)
    needles = [b"person-2", b"person-5", FLAT[2].half().numpy().tobytes(), b"a face"]
    for name, data in after.items():
        assert not any(needle in data or needle.decode("latin1") in name for needle in needles), name
    touched = {name for name in before if before[name] != after.get(name)}
    assert touched == {
        *(f"people/{name}" for name in ("people.jsonl", "people.seal.json", "seen/person-2.safetensors")),
        *(f"people/people/person-{place}.safetensors" for place in (2, 5)),
        *(f"corpus/{name}" for name in ("index.jsonl", "index.seal.json", "failures.jsonl", "failures.seal.json")),
        "corpus/shards/00001.safetensors",
        *(name for name in touched if name.startswith("parts/")),
    }
    assert len([name for name in after if name.startswith("parts/")]) == 1
    people, corpus = PeopleFolder(folder / "people"), Corpus.open(folder / "corpus")
    left = [name for name in NAMES if name not in ("person-2", "person-5")]
    assert people.ids == left
    assert {name: people.line(name)["split"] for name in left} == {name: splits[name] for name in left}
    assert [entry.identity for entry in corpus.entries] == left
    assert corpus.failures() == {}
    for name in left:
        assert torch.equal(corpus.of(name), FLAT[int(name[-1])].half())
        assert people.person(name).images.unique().item() == int(name[-1])
    for absent in (lambda: corpus.of("person-2"), lambda: people.person("person-2")):
        with pytest.raises(BadParameter, match="person-2"):
            absent()


def test_again_is_nothing_to_do(folder: Path) -> None:
    _forget(folder)
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    _forget(folder)
    forget_rows(folder / "corpus", {hash_of("nobody")})
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in folder.rglob("*") if path.is_file()} == before
    for nowhere in (forget_rows, forget_people, forget_parts):
        assert nowhere(folder / "none", GONE) == 0
    assert not (folder / "none").exists()


def test_both_grow_on_without_them(folder: Path) -> None:
    _forget(folder)
    with PeopleWriter(folder / "people", {"seed": 1}, SPLITS) as people:
        assert "person-2" in people.done
        with pytest.raises(BadParameter, match=r"person-2 was forgotten and does not come back"):
            people.add(_person(2))
        people.add(_person(9))
        people.finish()
    with CorpusWriter(folder / "corpus", LAYOUT, SETTINGS, rows_per_shard=2) as corpus:
        assert len(corpus) == 5
        with pytest.raises(BadParameter, match=r"person-2 was forgotten"):
            corpus.append([_row(2)])
        corpus.append([_row(9), _row(10)])
        corpus.finish()
    read = Corpus.open(folder / "corpus")
    for place in (0, 1, 3, 4, 6, 9, 10):
        assert torch.equal(read.of(f"person-{place}"), FLAT[place].half())
    assert read.entries[-1].consent == {"source": "by person-10"}
    assert PeopleFolder(folder / "people").ids[-1] == "person-9"


def test_a_row_that_no_line_lists_goes_as_well(folder: Path) -> None:
    index = folder / "corpus" / "index.jsonl"
    (folder / "corpus" / "index.seal.json").unlink()
    index.write_bytes(b"".join(index.read_bytes().splitlines(keepends=True)[:2]))  # killed before the lines
    forget_rows(folder / "corpus", GONE)
    shards = b"".join((folder / "corpus" / "shards" / f"0000{n}.safetensors").read_bytes() for n in range(3))
    assert FLAT[1].half().numpy().tobytes() in shards
    for place in (2, 3, 4, 6):
        assert FLAT[place].half().numpy().tobytes() not in shards
    with CorpusWriter(folder / "corpus", LAYOUT, SETTINGS, rows_per_shard=2) as corpus:
        corpus.append([_row(3), _row(4)])
    assert torch.equal(Corpus.open(folder / "corpus").of("person-4"), FLAT[4].half())


def test_a_build_at_work_is_not_disturbed(folder: Path) -> None:
    before = _bytes(folder)
    with (
        CorpusWriter(folder / "corpus", LAYOUT, SETTINGS, rows_per_shard=2),
        PeopleWriter(folder / "people", {"seed": 1}, SPLITS),
    ):
        for call, name in ((forget_rows, "corpus"), (forget_people, "people")):
            with pytest.raises(DiffLoRAError, match="another build writes this file"):
                call(folder / name, GONE)
    assert _bytes(folder) == before


def test_damage_is_named_and_nothing_is_taken_for_whole(folder: Path) -> None:
    shard = folder / "corpus" / "shards" / "00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(BadFile, match=r"00001\.safetensors"):
        forget_rows(folder / "corpus", GONE)


def _stop_at(call: int, *, kill: bool) -> None:
    """Stops at the ``call``-th time that something goes to the disk or away from it."""
    count = 0

    def guard(real):  # type: ignore[no-untyped-def]
        def step(*arguments, **options):  # type: ignore[no-untyped-def]
            nonlocal count
            count += 1
            if count == call:
                if kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError("the disk went away")
            return real(*arguments, **options)

        return step

    for owner, names in ((os, ("fsync", "ftruncate")), (Path, ("replace", "unlink", "chmod")), (shutil, ("rmtree",))):
        for name in names:
            setattr(owner, name, guard(getattr(owner, name)))


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "failed"])
def test_stopped_at_any_step_and_called_again_it_comes_out_the_same(folder: Path, tmp_path: Path, kill: bool) -> None:
    expected = tmp_path / "expected"
    shutil.copytree(folder, expected)
    _forget(expected)
    call, stopped = 0, True
    while stopped:
        call += 1
        work = tmp_path / f"stopped-{call}"
        shutil.copytree(folder, work)
        child = os.fork()
        if child == 0:
            try:
                _stop_at(call, kill=kill)
                _forget(work)
            except BaseException:
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        stopped = status != 0
        people, corpus = PeopleFolder(work / "people"), Corpus.open(work / "corpus")  # always readable
        for entry in corpus.entries:
            corpus.of(entry.identity)
        assert set(people.ids) >= {"person-0", "person-6"}
        _forget(work)
        assert _bytes(work) == _bytes(expected), f"stopped at step {call}"
    assert call > 20
