from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from difflora.errors import BadFile, BadImage
from difflora.evaluation.figures.methods import draw_grid, read_grid


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Pictures of two people, three prompts and two methods, each of a grey of its own."""
    index: dict[str, Any] = {"strength": {"generated": 1.5, "ridge": 2.0}, "people": {}, "scenes": []}
    for person in range(2):
        reference = f"p{person}.png"
        Image.new("RGB", (32, 16), (90, 90, 90)).save(tmp_path / reference)
        index["people"][f"p{person}"] = {"reference": reference, "class_word": "man"}
        for prompt in range(3):
            pictures = {}
            for place, method in enumerate(("base", "generated")):
                pictures[method] = f"{method}-{person}-{prompt}.png"
                Image.new("RGB", (16, 16), (100 * person + 10 * prompt + place,) * 3).save(tmp_path / pictures[method])
            index["scenes"].append({"person": f"p{person}", "prompt": f"p{person} {prompt}", "pictures": pictures})
    (tmp_path / "index.json").write_text(json.dumps(index))
    return tmp_path


def test_pictures_stand_by_person_prompt_and_method(kept: Path, opened: Callable[..., Any]) -> None:
    grid = read_grid(kept, 5, 2)
    assert (grid.methods, grid.prompts) == (["base", "generated"], [["p0 0", "p0 1"], ["p1 0", "p1 1"]])
    greys = [[[round(255 * float(one.mean())) for one in row] for row in person] for person in grid.pictures]
    assert greys == [[[0, 1], [10, 11]], [[100, 101], [110, 111]]]
    assert grid.references.shape == (2, 3, 16, 16)
    drawing = draw_grid(grid)
    assert "Strengths: generated 1.5." in drawing.caption, "of methods that are shown alone"
    assert "2 people, 4 rows" in drawing.alt
    opened(drawing)
    assert read_grid(kept, 1, 5).prompts == [["p0 0", "p0 1", "p0 2"]]


def test_what_is_not_there_or_damaged_is_named(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"index\.json: no such file"):
        read_grid(tmp_path / "nowhere", 1, 1)
    (kept / "base-0-0.png").write_bytes(b"\x89PNG")
    with pytest.raises(BadImage, match=r"base-0-0\.png"):
        read_grid(kept, 1, 1)
    index = json.loads((kept / "index.json").read_text())
    for broken in ({}, index | {"scenes": []}, index | {"people": {}}, index | {"strength": 3}):
        (kept / "index.json").write_text(json.dumps(broken))
        with pytest.raises(BadFile, match="lists no pictures of methods"):
            read_grid(kept, 1, 1)
