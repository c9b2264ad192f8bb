from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difflora.errors import BadFile, BadImage
from difflora.evaluation.figures.methods import draw_grid, read_grid
from tests.kept import METHODS, PROMPTS, make_gallery


def test_pictures_stand_by_person_prompt_and_method(tmp_path: Path, opened: Callable[..., Any]) -> None:
    make_gallery(tmp_path, ["p2", "p1"], chosen=["worst"])
    with Image.open(tmp_path / "references" / "p1.jpg") as image:
        image.resize((64, 32)).save(tmp_path / "references" / "p1.jpg")
    grid = read_grid(tmp_path, 5, 5)
    assert (grid.methods, grid.prompts) == (list(METHODS), [list(PROMPTS)] * 2), "the worst was not asked for"
    for person, shown in zip(("p2", "p1"), grid.pictures, strict=True):
        for number in range(len(PROMPTS)):
            for place, method in enumerate(METHODS):
                with Image.open(tmp_path / method / person / f"{number:03d}.png") as image:
                    pixels = np.asarray(image)
                assert np.array_equal(shown[number, place].mul(255).round().permute(1, 2, 0).numpy(), pixels)
    assert grid.references.shape == (2, 3, 32, 32)
    drawing = draw_grid(grid)
    assert "Strengths: generated 1.5, teacher 1.5." in drawing.caption
    assert "2 people, 4 rows" in drawing.alt
    opened(drawing)
    assert read_grid(tmp_path, 1, 1).prompts == [[PROMPTS[0]]]


def test_what_is_not_there_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="nowhere: no such folder"):
        read_grid(tmp_path / "nowhere", 1, 1)
    nobody = make_gallery(tmp_path / "nobody", [], chosen=["worst"])
    with pytest.raises(BadFile, match=r"set evaluate\.store_pictures\.people"):
        read_grid(nobody, 1, 1)
    kept = make_gallery(tmp_path / "kept")
    (kept / "base" / "p1" / "000.png").write_bytes(b"\x89PNG")
    with pytest.raises(BadImage, match=r"000\.png"):
        read_grid(kept, 1, 1)
    (kept / "base" / "p1" / "000.png").unlink()
    with pytest.raises(BadFile, match=r"000\.png: no such file"):
        read_grid(kept, 1, 1)
