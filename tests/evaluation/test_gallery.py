from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from difflora.errors import BadFile, BadParameter
from difflora.evaluation.gallery import Gallery, keep_pictures, reduced
from difflora.evaluation.settings import StoredPictures
from difflora.evaluation.subjects import Subject
from tests.kept import make_gallery


@pytest.fixture(scope="module")
def ladder(make_subject: Callable[..., Subject]) -> Any:
    generator = torch.Generator().manual_seed(0)
    subjects = [make_subject(f"p{number}", torch.eye(2)[0], prompts=3) for number in range(5)]
    best = {
        name: SimpleNamespace(pictures=torch.randint(256, (5, 3, 3, 24, 24), generator=generator, dtype=torch.uint8))
        for name in ("base", "generated", "real")
    }
    return SimpleNamespace(subjects=subjects, best=best, strengths={"generated": 1.25})


def test_pictures_come_back_as_they_were_drawn(ladder: Any, tmp_path: Path) -> None:
    keep_pictures(tmp_path / "kept", ladder, StoredPictures(people=2, prompts=2), ["p4"])
    gallery = Gallery.open(tmp_path / "kept")
    assert list(gallery.index.people) == ["p0", "p1", "p4"]
    assert [person.chosen for person in gallery.index.people.values()] == [False, False, True]
    assert [len(gallery.scenes_of(person)) for person in gallery.index.people] == [2, 2, 2]
    assert gallery.index.strength == {"generated": 1.25}
    scene = gallery.scenes_of("p4")[1]
    assert (scene.prompt, scene.seed) == ("p4 1", 1)
    assert list(scene.pictures) == ["base", "generated"], "real pictures were drawn from no prompt"
    with Image.open(gallery.path(scene.pictures["generated"])) as picture:
        shown = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(shown, ladder.best["generated"].pictures[4][1])
    reference = gallery.path(gallery.index.people["p4"].reference).read_bytes()
    assert reference == ladder.subjects[4].reference
    assert Image.open(io.BytesIO(reference)).format == "JPEG"


def test_an_older_folder_goes(ladder: Any, tmp_path: Path) -> None:
    folder = make_gallery(tmp_path / "kept", ["old"])
    keep_pictures(folder, ladder, StoredPictures(people=1, prompts=1))
    assert sorted(path.name for path in folder.iterdir()) == ["base", "generated", "index.json", "references"]
    assert not list(folder.rglob("old*"))


def test_what_is_not_kept_is_let_go_and_large_pictures_are_made_smaller(ladder: Any) -> None:
    pictures = ladder.best["base"].pictures
    some = reduced(pictures, ["a", "a", "b"], StoredPictures(prompts=1))
    assert torch.equal(some, pictures[:, :2])
    assert some.untyped_storage().nbytes() == some.numel(), "the others are not held"
    small = reduced(pictures, ["a", "b", "c"], StoredPictures(prompts=2, side=16))
    assert small.shape == (5, 2, 3, 16, 16)
    assert (small.float().mean((3, 4)) - pictures[:, :2].float().mean((3, 4))).abs().max() < 3
    assert reduced(pictures, ["a"] * 3, StoredPictures(prompts=5)).shape == pictures.shape


def test_several_pictures_of_a_prompt_count_as_one_prompt(ladder: Any, tmp_path: Path) -> None:
    subject = ladder.subjects[0]
    twice = SimpleNamespace(identity="p0", class_word="man", reference=subject.reference)
    twice.prompts, twice.seeds = ["a", "a", "b"], [0, 1, 2]
    again = SimpleNamespace(subjects=[twice], best=ladder.best, strengths={})
    keep_pictures(tmp_path / "kept", again, StoredPictures(prompts=1))
    gallery = Gallery.open(tmp_path / "kept")
    assert [scene.seed for scene in gallery.scenes_of("p0")] == [0, 1]
    assert [scene.seed for scene in gallery.scenes_of("p0", one_a_prompt=True)] == [0]


def test_nobody_kept_is_still_a_folder(ladder: Any, tmp_path: Path) -> None:
    keep_pictures(tmp_path / "kept", ladder, StoredPictures(people=0))
    assert Gallery.open(tmp_path / "kept").index.scenes == ()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "", "a/../../b.png", "..\\b.png"])
def test_an_index_cannot_name_files_outside(name: str, tmp_path: Path) -> None:
    folder = make_gallery(tmp_path / "kept", ["p1"])
    index = json.loads((folder / "index.json").read_text())
    index["scenes"][0]["pictures"]["base"] = name
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadParameter, match=r"index\.json\.scenes\.0\.pictures\.base: .* is no path inside the folder"):
        Gallery.open(folder)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="run `difflora stage evaluate`"):
        Gallery.open(tmp_path / "nowhere")
    folder = make_gallery(tmp_path / "kept", ["p1"])
    (folder / "base" / "p1" / "000.png").unlink()
    with pytest.raises(BadFile, match=r"base/p1/000\.png: no such file"):
        Gallery.open(folder).path("base/p1/000.png")
    index = json.loads((folder / "index.json").read_text())
    index["scenes"][1]["person"] = "stranger"
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadFile, match="'stranger', who is not among its people"):
        Gallery.open(folder)
