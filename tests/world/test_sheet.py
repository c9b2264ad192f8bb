from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from difflora.errors import BadFile, BadParameter
from difflora.world import sheet
from difflora.world.sheet import base_sheet, render_sheet


class FakePipeline:
    """Draws noise from each picture's own generator."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, prompt: list[str], **arguments: Any) -> Any:
        self.calls.append({"prompt": prompt, **arguments})
        images = torch.stack([torch.rand(3, 64, 64, generator=g) for g in arguments["generator"]])
        return type("Output", (), {"images": images})


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    pipe = FakePipeline()
    monkeypatch.setattr(sheet, "load_base", lambda _: pipe)
    return pipe


def test_base_sheet_asks_for_every_prompt_and_is_seeded(tmp_path: Path, pipeline: FakePipeline) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        base_sheet(tmp_path, ["a man", "a woman"], seed, tmp_path / f"{name}.png", columns=3, steps=7)
    assert [call["prompt"] for call in pipeline.calls[:2]] == [["a man"] * 3, ["a woman"] * 3]
    assert pipeline.calls[0]["num_inference_steps"] == 7
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_no_two_pictures_share_their_noise(tmp_path: Path, pipeline: FakePipeline) -> None:
    base_sheet(tmp_path, ["a"] * 3, 0, tmp_path / "a.png", columns=4)
    seeds = [g.initial_seed() for call in pipeline.calls for g in call["generator"]]
    assert len(set(seeds)) == 12


def test_render_sheet(tmp_path: Path) -> None:
    render_sheet(2, 3, 0, tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.size == (260 + 3 * 134, 6 + 2 * 134)


def test_mistakes_are_named_before_anything_is_loaded(tmp_path: Path) -> None:
    for settings, said in (
        ({"prompts": []}, "0 rows"),
        ({"prompts": ["a", " "]}, "prompt is empty"),
        ({"columns": 0}, "0 pictures"),
        ({"columns": 4000}, "at most 400"),
        ({"seed": -1}, "seed is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"guidance_scale": -1.0}, "guidance scale is -1"),
        ({"out": tmp_path}, r"\.png"),
        ({"out": tmp_path / "a.gif"}, r"a\.gif"),
    ):
        arguments: dict[str, Any] = {"prompts": ["a"], "seed": 0, "out": tmp_path / "a.png"}
        with pytest.raises(BadParameter, match=said):
            base_sheet(tmp_path, **(arguments | settings))


def test_missing_and_broken_base_model(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no base model here"):
        base_sheet(tmp_path, ["a"], 0, tmp_path / "a.png")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model_index.json").write_text("{")
    with pytest.raises(BadFile, match="cannot be read"):
        base_sheet(tmp_path, ["a"], 0, tmp_path / "a.png")
