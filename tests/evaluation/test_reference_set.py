from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from difflora.corpus.people import PeopleFolder, PeopleWriter, Person, no_boxes
from difflora.corpus.splits import SplitSettings, split_of
from difflora.encoders.images import as_pictures
from difflora.errors import BadImage, BadParameter
from difflora.evaluation.reference_set import reference_pictures, spread_places

SPLITS = SplitSettings(validation=0.2, test=0.2)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> PeopleFolder:
    """Ten people with three references each, grey as their number and a little more for each picture."""
    folder = tmp_path_factory.mktemp("people") / "people"
    with PeopleWriter(folder, {"kind": "grey"}, SPLITS) as writer:
        for number in range(10):
            references = torch.stack([torch.full((3, 16, 16), 20 * number + n, dtype=torch.uint8) for n in range(3)])
            writer.add(
                Person(
                    f"p{number}", "man", references[:1].clone(), ["a"], references, ["a"] * 3, no_boxes(references[:1])
                )
            )
        writer.finish()
    return PeopleFolder(folder)


def _level(picture: object) -> int:
    return int(as_pictures([picture])[0].getpixel((0, 0))[0])  # type: ignore[list-item, index]


def test_training_peoples_pictures_alone(people: PeopleFolder) -> None:
    trained = [number for number in range(10) if split_of(f"p{number}", SPLITS) == "train"]
    assert 2 <= len(trained) < 10
    levels = [_level(one) for one in reference_pictures(None, people, 1000)]
    assert levels == [20 * number + n for number in trained for n in range(3)]
    few = [_level(one) for one in reference_pictures(None, people, len(trained))]
    assert [level // 20 for level in few] == trained, "a picture of each person"


def test_a_folder_of_pictures_and_below(people: PeopleFolder, tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / ("deep" if number % 2 else ".") / f"{number}.{'png' if number else 'JPG'}"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (40 * number,) * 3).save(path, "PNG" if number else "JPEG")
    (tmp_path / "notes.txt").write_text("no picture")
    assert sorted(_level(one) for one in reference_pictures(tmp_path, people, 100)) == [40 * n for n in range(6)]
    assert len(list(reference_pictures(tmp_path, people, 4))) == 4
    (tmp_path / "7.png").write_bytes(b"half")
    with pytest.raises(BadImage, match=r"7\.png"):
        list(reference_pictures(tmp_path, people, 100))


def test_too_few_are_refused_before_anything_is_read(people: PeopleFolder, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadParameter, match=r"evaluate\.metrics\.reference: .* holds 0 pictures"):
            reference_pictures(folder, people, 10)


def test_places_are_spread() -> None:
    assert spread_places(10, 5) == [0, 2, 4, 6, 8]
    assert spread_places(3, 5) == [0, 1, 2]
