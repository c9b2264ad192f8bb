from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from difflora.errors import BadFile, BadParameter, DiffLoRAError
from difflora.world.loop import _LIMIT
from difflora.world.manifest import check_manifest, read_manifest
from difflora.world.training import BARS_SEED, record_rows, train_models
from difflora.world.verify import run_verifications

ORDER = [
    "detector",
    "recogniser",
    "vae",
    "text",
    "base",
    "judge",
    "clip",
    "dino",
    "classifiers",
    "reward",
    "start",
    "photomaker",
    "style_judge",
    "style_base",
]


def test_all_in_order_then_measured(tmp_path: Path, fake_world: Any) -> None:
    manifest = train_models([], tmp_path / "assets", tmp_path / "work")
    assert fake_world.trained == ORDER
    assert fake_world.verified == [(name, BARS_SEED, None) for name in ORDER]
    assert list(manifest.models) == ORDER
    assert check_manifest(tmp_path / "assets") == manifest


def test_manifest_has_what_was_done(tmp_path: Path, fake_world: Any) -> None:
    train_models(["clip"], tmp_path, tmp_path / "work")
    record = json.loads((tmp_path / "MANIFEST.json").read_text())["models"]["clip"]
    assert record["command"] == "difflora world train clip"
    assert (record["steps"], record["seconds"], record["settings"]) == (20, 1.3, {"lr": 0.1})
    assert record["machine"]["torch"]
    assert record["machine"]["cores"] >= 1
    assert record["date"].endswith("+00:00")
    assert record["files"][0]["path"] == "clip/model.bin"
    assert record["bars_seed"] == BARS_SEED
    assert record["bars"][0] == {
        "name": "clip score", "goal": 0.9, "figure": 0.95, "at_least": True, "passed": True,
    }  # fmt: skip
    assert record["bars"][2]["goal"] is None


def test_training_one_again_keeps_the_others(tmp_path: Path, fake_world: Any) -> None:
    before = train_models(["clip", "dino"], tmp_path, tmp_path / "work")
    fake_world.content = "better weights"
    after = train_models(["clip"], tmp_path, tmp_path / "work")
    assert after.models["dino"] == before.models["dino"]
    assert after.models["clip"].files != before.models["clip"].files
    check_manifest(tmp_path)


def test_a_bar_that_needs_another_model_waits(
    tmp_path: Path, fake_world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        manifest = train_models(["vae"], tmp_path, tmp_path / "work")
    assert manifest.models["vae"].bars == []
    assert "vae: its bars need detector, recogniser, judge" in caplog.text
    assert "not measured yet" in (tmp_path / "README.md").read_text()
    train_models(["faces", "judge"], tmp_path, tmp_path / "work")
    record_rows(run_verifications(["vae"], tmp_path, 55), tmp_path, 55)
    assert read_manifest(tmp_path).models["vae"].bars_seed == 55


def test_finished_models_are_recorded_when_a_later_one_fails(tmp_path: Path, fake_world: Any) -> None:
    def broken(*_: Any) -> Any:
        raise DiffLoRAError("dino: the loss is nan")

    sys.modules["difflora.world.dino"].train_dino = broken  # type: ignore[attr-defined]
    with pytest.raises(DiffLoRAError, match="nan"):
        train_models(["clip", "dino"], tmp_path, tmp_path / "work")
    assert list(check_manifest(tmp_path).models) == ["clip"]


def test_time_limit_reaches_the_loop(tmp_path: Path, fake_world: Any) -> None:
    module, seen = sys.modules["difflora.world.clip"], []
    real = module.train_clip

    def train(*arguments: Any) -> Any:
        seen.append(_LIMIT.get())
        return real(*arguments)

    module.train_clip = train  # type: ignore[attr-defined]
    train_models(["clip"], tmp_path, tmp_path / "work", limit_s=5.0, verify=False)
    train_models(["clip"], tmp_path, tmp_path / "work", verify=False)
    assert seen == [5.0, None]


def test_bad_arguments_start_nothing(tmp_path: Path, fake_world: Any) -> None:
    (tmp_path / "file").write_text("mine")
    for names, assets, settings, said in (
        (["clip", "unet"], "assets", {}, "unet"),
        (["clip"], "assets", {"limit_s": 0}, "time limit is 0"),
        (["clip"], "assets", {"seed": 2}, "seed 2"),
        (["clip"], "file", {}, "not a folder"),
    ):
        with pytest.raises(BadParameter, match=said):
            train_models(names, tmp_path / assets, tmp_path / "work", **settings)  # type: ignore[arg-type]
    assert fake_world.trained == []


def test_a_training_that_leaves_nothing_or_says_nothing(tmp_path: Path, fake_world: Any) -> None:
    del fake_world.facts["steps"]
    with pytest.raises(DiffLoRAError, match="clip: its training did not say its steps"):
        train_models(["clip"], tmp_path, tmp_path / "work")
    sys.modules["difflora.world.dino"].train_dino = lambda *_: {}  # type: ignore[attr-defined]
    with pytest.raises(DiffLoRAError, match="dino: its training left no file"):
        train_models(["dino"], tmp_path, tmp_path / "work")


def test_a_damaged_manifest_is_not_overwritten(tmp_path: Path, fake_world: Any) -> None:
    (tmp_path / "MANIFEST.json").write_text("{")
    with pytest.raises(BadFile, match=r"MANIFEST\.json"):
        train_models(["clip"], tmp_path, tmp_path / "work")
    assert fake_world.trained == []
    assert (tmp_path / "MANIFEST.json").read_text() == "{"


def test_card_has_every_model_and_its_figures(tmp_path: Path, fake_world: Any) -> None:
    fake_world.figures["judge"] = 0.5
    train_models([], tmp_path, tmp_path / "work")
    card = (tmp_path / "README.md").read_text()
    for name in ORDER:
        assert f"`difflora world train {name}`" in card
    assert "| judge | judge score | at least 0.9 | 0.5 | **failed** |" in card
    assert "| judge | judge error | at most 0.1 | 0.05 | passed |" in card
    assert "| judge | judge distance | - | 12.5 | reported |" in card
    assert "no real person" in card
    assert "Apache-2.0" in card
