from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from difflora.corpus.people import PeopleFolder, PeopleWriter, Person
from difflora.corpus.splits import SplitSettings
from difflora.errors import BadFile, BadParameter

IMAGES = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BOXES = torch.tensor([[1.0, 2.0, 6.0, 7.0], [0.0, 0.0, 0.0, 0.0]])


def _person(identity: str) -> Person:
    face = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    captions, points = ["a woman", "a woman, sad"], torch.arange(20.0).view(2, 5, 2)
    return Person(identity, "woman", IMAGES[:2], captions, IMAGES[2:], ["a woman"], BOXES, {"face": face}, points)


def test_a_person_comes_back_whole(tmp_path: Path) -> None:
    with PeopleWriter(tmp_path, {"seed": 1}, SplitSettings()) as writer:
        writer.add(_person("anna"), similarity=0.7)
        writer.skip("bert", "only 3 faces")
        assert writer.done == {"anna", "bert"}
    folder = PeopleFolder(tmp_path)
    assert folder.ids == ["anna"]
    assert folder.line("anna")["similarity"] == 0.7
    read, made = folder.person("anna"), _person("anna")
    assert torch.equal(read.images, made.images)
    assert torch.equal(read.references, made.references)
    assert torch.equal(read.boxes, made.boxes)
    assert read.landmarks is not None
    assert made.landmarks is not None
    assert torch.equal(read.landmarks, made.landmarks)
    assert "landmarks" not in read.embeddings
    assert (read.captions, read.reference_captions) == (made.captions, made.reference_captions)
    assert torch.equal(read.embeddings["face"], made.embeddings["face"])
    assert read.class_word == "woman"
    assert folder.split(folder.line("anna")["split"]) == ["anna"]


def test_a_persons_file_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in "ab":
        with PeopleWriter(tmp_path / name, {}, SplitSettings()) as writer:
            writer.add(_person("anna"))
    one, two = (tmp_path / name / "people" / "anna.safetensors" for name in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_bad_ids_and_repeats_are_refused(tmp_path: Path) -> None:
    with PeopleWriter(tmp_path, {}, SplitSettings()) as writer:
        for identity in ("", "../up", "a/b", ".hidden", "x" * 101):
            with pytest.raises(BadParameter, match="is no id"):
                writer.add(_person(identity))
        writer.add(_person("anna"))
        with pytest.raises(BadParameter, match="has anna already"):
            writer.add(_person("anna"))
    with pytest.raises(BadParameter, match="nobody called 'bert'"):
        PeopleFolder(tmp_path).person("bert")


def test_other_settings_are_refused(tmp_path: Path) -> None:
    with PeopleWriter(tmp_path, {"seed": 1}, SplitSettings()):
        pass
    with pytest.raises(BadParameter, match=r"seed = 1, not 2"):
        PeopleWriter(tmp_path, {"seed": 2}, SplitSettings())
    with pytest.raises(BadParameter, match=r"splits.test = 0.1, not 0.2"):
        PeopleWriter(tmp_path, {"seed": 1}, SplitSettings(test=0.2))


def test_damage_is_named(tmp_path: Path, make_people: Callable[..., PeopleFolder]) -> None:
    people = make_people(tmp_path, 2, images=2)
    path = tmp_path / "people" / f"{people.ids[0]}.safetensors"
    good = path.read_bytes()
    for bad in (good[:-1], good[:200], b""):
        path.write_bytes(bad)
        with pytest.raises(BadFile, match=rf"{path.name}: was changed"):
            people.person(people.ids[0])
    path.unlink()
    with pytest.raises(BadFile, match=rf"{path.name}: no such file, though"):
        people.person(people.ids[0])
    lines = (tmp_path / "people.jsonl").read_bytes()
    (tmp_path / "people.jsonl").write_bytes(lines[: lines.index(b"\n") + 1])
    with pytest.raises(BadFile, match=r"people.jsonl: line 2 is missing, of 2"):
        PeopleFolder(tmp_path)


def test_what_a_kill_left_is_swept_away(tmp_path: Path) -> None:
    with PeopleWriter(tmp_path, {}, SplitSettings()) as writer:
        writer.add(_person("anna"))
    (tmp_path / "people" / ".bert.safetensors.x1y2").write_bytes(b"half")
    with PeopleWriter(tmp_path, {}, SplitSettings()):
        pass
    assert [path.name for path in (tmp_path / "people").iterdir()] == ["anna.safetensors"]
