from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from difflora.errors import BadParameter
from difflora.world import render_folder as module
from difflora.world.render import render
from difflora.world.render_folder import render_folder
from difflora.world.scenes import Scenes, sample_scenes
from difflora.world.traits import People, sample_people


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]


def test_layout_and_truth(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    assert render_folder(out, people=3, images=2, seed=5) == 6
    assert sorted(files(out)) == ["0/0.png", "0/1.png", "1/0.png", "1/1.png", "2/0.png", "2/1.png", "captions.jsonl"]
    generator = torch.Generator().manual_seed(5)
    people = sample_people(3, generator)[[0, 0, 1, 1, 2, 2]]
    drawn = render(people, sample_scenes(6, generator))
    for row, line in enumerate(lines(out)):
        assert line["file"] == f"{row // 2}/{row % 2}.png"
        assert line["person"] == row // 2
        np.testing.assert_allclose(line["box"], drawn.boxes[row], atol=2e-3)  # type: ignore[arg-type]
        np.testing.assert_allclose(line["landmarks"], drawn.landmarks[row], atol=2e-3)  # type: ignore[arg-type]
        with Image.open(out / str(line["file"])) as picture:
            assert (picture.format, picture.size, picture.mode) == ("PNG", (64, 64), "RGB")
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        torch.testing.assert_close(pixels, drawn.images[row], atol=1.1 / 255, rtol=0)


def test_all_attributes_by_name(tmp_path: Path) -> None:
    render_folder(tmp_path / "out", people=1, images=2, seed=0)
    first, second = lines(tmp_path / "out")
    assert set(first["traits"]) == set(People.CONTINUOUS) | set(People.CATEGORICAL)  # type: ignore[call-overload]
    assert set(first["scene"]) == set(Scenes.CONTINUOUS) | set(Scenes.CATEGORICAL)  # type: ignore[call-overload]
    assert first["traits"] == second["traits"], "a person stays the same"
    assert first["scene"] != second["scene"]
    assert first["traits"]["gender"] in str(first["caption"])  # type: ignore[index]


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        render_folder(tmp_path / name, people=2, images=2, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_names_sort_and_batches_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 5)
    render_folder(tmp_path / "out", people=2, images=11, seed=0)
    names = [str(line["file"]) for line in lines(tmp_path / "out")]
    assert names == sorted(names)
    assert names[0] == "0/00.png"
    assert names[-1] == "1/10.png"


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"people": 0}, "people is 0"),
        ({"images": -3}, "images is -3"),
        ({"seed": -1}, "seed is -1"),
        ({"people": 10_000, "images": 1_000}, "10000000 pictures"),
    ],
)
def test_bad_numbers_write_nothing(tmp_path: Path, numbers: dict[str, int], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        render_folder(tmp_path / "out", **({"people": 1, "images": 1, "seed": 0} | numbers))
    assert not list(tmp_path.iterdir())


def test_a_file_and_a_folder_of_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    for name, said in (("file", "is a file"), ("folder", "is not empty")):
        with pytest.raises(BadParameter, match=said):
            render_folder(tmp_path / name, people=1, images=1, seed=0, overwrite=True)
    assert files(tmp_path) == {"file": b"mine", "folder/thesis.txt": b"mine"}


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is as good as none
    render_folder(out, people=3, images=1, seed=0)
    with pytest.raises(BadParameter, match="--overwrite"):
        render_folder(out, people=1, images=1, seed=0)
    render_folder(out, people=1, images=1, seed=0, overwrite=True)
    assert sorted(files(tmp_path)) == ["out/0/0.png", "out/captions.jsonl"]


def test_a_failure_midway_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    render_folder(out, people=1, images=1, seed=0)
    before = files(tmp_path)

    def broken(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_png", broken)
    with pytest.raises(OSError, match="No space"):
        render_folder(out, people=2, images=1, seed=0, overwrite=True)
    assert files(tmp_path) == before
