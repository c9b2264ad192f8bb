from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from difflora.errors import BadFile, BadImage, BadParameter
from difflora.study.build import Key, build_study
from difflora.study.pages import Pages
from tests.kept import METHODS, PROMPTS, make_gallery


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _colour(path: Path) -> Any:
    with Image.open(path) as picture:
        return picture.convert("RGB").getpixel((0, 0))


def test_every_page_shows_the_picture_that_the_key_says(study: Path, pictures: Path) -> None:
    pages = Pages.open(study)
    key = Key.open(study, pages)
    assert len(pages.items) == 3 * 2 * 3
    counts = Counter((key.items[item.id].method, key.items[item.id].person) for item in pages.items)
    assert counts == {(method, person): 2 for method in METHODS for person in ("p1", "p2", "p3")}
    for item in pages.items:
        origin = key.items[item.id]
        number = PROMPTS.index(origin.prompt)
        assert item.prompt == origin.prompt
        kept = pictures / origin.method / origin.person / f"{number:03d}.png"
        assert _colour(pages.folder / "pictures" / item.picture) == _colour(kept)
        reference = pictures / "references" / f"{origin.person}.jpg"
        assert _colour(pages.folder / "pictures" / item.reference) == _colour(reference), "of the same person"
    assert key.strength == {"generated": 1.5, "teacher": 1.5}


def test_pages_do_not_tell_whose_a_picture_is(study: Path) -> None:
    served = _bytes(study / "pages")
    told = b"".join([*served.values(), *(name.encode() for name in served)])
    for word in (*METHODS, "p1", "p2", "p3", '"seed"'):
        assert word.encode() not in told
    key = json.loads((study / "key.json").read_text())
    methods = [key["items"][item.id]["method"] for item in Pages.open(study).items]
    assert methods != sorted(methods)
    assert len({tuple(methods[start : start + 3]) for start in range(0, 18, 3)}) > 1, "no order repeats"
    assert sorted(path.name for path in study.iterdir()) == ["key.json", "pages"]


def test_nothing_of_a_files_own_words_is_passed_on(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    folder = make_gallery(tmp_path / "kept", ["p1"])
    notes = PngInfo()
    notes.add_text("method", "generated")
    Image.new("RGB", (32, 32)).save(folder / "generated" / "p1" / "000.png", pnginfo=notes)
    build_study(folder, tmp_path / "study")
    assert b"generated" not in b"".join(_bytes(tmp_path / "study" / "pages").values())


def test_the_seed_decides_names_and_order(pictures: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_study(pictures, tmp_path / name, seed=seed)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    first, other = Pages.open(tmp_path / "a"), Pages.open(tmp_path / "c")
    assert {item.id for item in first.items}.isdisjoint(item.id for item in other.items)


def test_people_kept_for_their_result_are_never_shown(pictures: Path, tmp_path: Path) -> None:
    pages = build_study(pictures, tmp_path / "study")
    assert "success" not in {origin.person for origin in Key.open(tmp_path / "study", pages).items.values()}
    with pytest.raises(BadParameter, match="pictures of 3 people, 4 are wanted"):
        build_study(pictures, tmp_path / "other", people=4)


def test_a_part_may_be_chosen(pictures: Path, tmp_path: Path) -> None:
    pages = build_study(
        pictures, tmp_path / "study", methods=["teacher", "base"], people=2, prompts=1, per_rater=3, seed=1
    )
    origins = Key.open(tmp_path / "study", pages).items.values()
    assert {(one.method, one.person) for one in origins} == {(m, p) for m in ("base", "teacher") for p in ("p1", "p2")}
    assert len(pages.of_rater("someone")) == 3


def test_raters_have_orders_of_their_own_that_stay(study: Path) -> None:
    pages = Pages.open(study)
    orders = [[item.id for item in pages.of_rater(f"rater {number}")] for number in range(6)]
    assert len({tuple(order) for order in orders}) == 6
    assert all(set(order) == {item.id for item in pages.items} for order in orders)
    assert [item.id for item in pages.of_rater("rater 3")] == orders[3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ["base", "nobody"]}, "no pictures of nobody; it has base, generated, teacher"),
        ({"methods": ["base"]}, "give at least 2"),
        ({"methods": ["base", "base"]}, "give at least 2"),
        ({"prompts": 3}, "has 2 pictures of p1 by a method, 3 are wanted"),
    ],
)
def test_wrong_wishes_are_named_and_leave_nothing(
    options: dict[str, Any], said: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadParameter, match=said):
        build_study(pictures, tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()


def test_a_study_with_votes_is_never_built_over(study: Path, pictures: Path) -> None:
    (study / "votes.sqlite").write_bytes(b"")
    before = _bytes(study)
    with pytest.raises(BadParameter, match="votes were cast on this study"):
        build_study(pictures, study, seed=8)
    assert _bytes(study) == before


def test_missing_and_damaged_pictures(tmp_path: Path) -> None:
    folder = make_gallery(tmp_path / "kept", ["p1"])
    (folder / "base" / "p1" / "001.png").write_bytes(b"\x89PNG")
    with pytest.raises(BadImage, match=r"base/p1/001\.png"):
        build_study(folder, tmp_path / "study")
    assert not (tmp_path / "study" / "pages").exists()
    index = json.loads((folder / "index.json").read_text())
    del index["scenes"][1]["pictures"]["teacher"]
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadFile, match="teacher did not draw p1"):
        build_study(folder, tmp_path / "study")
    with pytest.raises(BadFile, match="no such folder"):
        build_study(tmp_path / "nowhere", tmp_path / "study")


def test_pages_and_key_are_checked_when_read(study: Path) -> None:
    pages = Pages.open(study)
    key = json.loads((study / "key.json").read_text())
    (study / "key.json").write_text(json.dumps(key | {"study": "0" * 64}))
    with pytest.raises(BadFile, match="is the key of other pages"):
        Key.open(study, pages)
    (pages.folder / "pictures" / pages.items[0].picture).unlink()
    with pytest.raises(BadFile, match=pages.items[0].picture):
        Pages.open(study)
    items = json.loads((pages.folder / "items.json").read_text())
    items["items"][0]["picture"] = "../../key.json"
    (pages.folder / "items.json").write_text(json.dumps(items))
    with pytest.raises(BadParameter, match=r"items\.0\.picture"):
        Pages.open(study)
    with pytest.raises(BadFile, match="difflora study build"):
        Pages.open(study / "nowhere")
