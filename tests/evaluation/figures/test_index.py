from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from difflora.errors import BadFile
from difflora.evaluation.figures.canvas import Drawing, panels
from difflora.evaluation.figures.index import write_figures
from difflora.evaluation.figures.listing import read_index

ORDER = ["first", "second", "third"]


def _drawing(title: str, height: float = 1.0) -> Drawing:
    figure, (axes,) = panels(1, 2, 1)
    axes.bar([0], [height])
    return Drawing(figure, title, f"caption of {title}", f"alt of {title}")


def test_the_index_says_what_each_picture_shows(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    written = write_figures(folder, {"third": _drawing("c"), "first": _drawing("a")}, ORDER)
    assert [path.name for path in written] == ["first.png", "third.png"]
    assert json.loads((folder / "index.json").read_text()) == [
        {"file": "first.png", "title": "a", "caption": "caption of a", "alt": "alt of a"},
        {"file": "third.png", "title": "c", "caption": "caption of c", "alt": "alt of c"},
    ]
    assert [one.model_dump() for one in read_index(folder)] == json.loads((folder / "index.json").read_text())
    for path in written:
        with Image.open(path) as image:
            assert image.size == (288, 144)
    assert {path.name for path in folder.iterdir()} == {"first.png", "third.png", "index.json"}


def test_one_alone_leaves_the_others_and_all_leave_none_that_is_old(tmp_path: Path) -> None:
    write_figures(tmp_path, {"first": _drawing("a"), "third": _drawing("c")}, ORDER)
    before = (tmp_path / "first.png").read_bytes()
    write_figures(tmp_path, {"second": _drawing("b"), "third": _drawing("new", -1)}, ORDER, keep=True)
    assert [entry.title for entry in read_index(tmp_path)] == ["a", "b", "new"]
    assert (tmp_path / "first.png").read_bytes() == before
    write_figures(tmp_path, {"second": _drawing("b")}, ORDER)
    assert [entry.file for entry in read_index(tmp_path)] == ["second.png"]
    assert not (tmp_path / "first.png").exists()


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_figures(tmp_path / name, {"first": _drawing("a")}, ORDER)
    assert (tmp_path / "one" / "first.png").read_bytes() == (tmp_path / "two" / "first.png").read_bytes()


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    assert read_index(tmp_path) == []
    for text in ("{", '[{"file": "x.png"}]', "[3]"):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(BadFile, match=r"index\.json: holds no list of figures"):
            read_index(tmp_path)
    (tmp_path.parent / "x.png").touch()
    (tmp_path / "index.json").write_text(json.dumps([{"file": "../x.png", "title": ""}]))
    with pytest.raises(BadFile, match="is no name of a file beside it"):
        read_index(tmp_path)


def test_a_picture_that_is_gone_is_listed_but_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps([{"file": "first.png", "title": "a"}]))
    assert [(one.file, one.caption, one.alt) for one in read_index(tmp_path)] == [("first.png", "", "")]
    with pytest.raises(BadFile, match=r"'first\.png', which is not beside it"):
        write_figures(tmp_path, {"second": _drawing("b")}, ORDER, keep=True)
    assert not (tmp_path / "second.png").exists()
