from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from difflora.cli import main
from difflora.errors import BadFile, BadParameter, DiffLoRAError
from difflora.world.report import print_rows
from difflora.world.training import train_models
from difflora.world.verify import goal_in_words, rows_as_json, run_verifications


def test_rows_in_order_from_the_given_seed(tmp_path: Path, fake_world: Any) -> None:
    train_models([], tmp_path, tmp_path / "work", verify=False)
    rows = run_verifications(["clip", "faces"], tmp_path, 77, 16)
    assert fake_world.verified == [("detector", 77, 16), ("recogniser", 77, 16), ("clip", 77, 16)]
    assert [row.model for row in rows] == ["detector"] * 3 + ["recogniser"] * 3 + ["clip"] * 3


def test_without_names_all_that_was_made_is_measured(
    tmp_path: Path, fake_world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    train_models(["faces", "vae"], tmp_path, tmp_path / "work", verify=False)
    rows = run_verifications([], tmp_path, 77, 16)
    assert {row.model for row in rows} == {"detector", "recogniser"}
    assert "not measured: vae, text, base, judge" in caplog.text, "the VAE is measured with the judge"
    with pytest.raises(BadFile, match="no files of detector"):
        run_verifications([], tmp_path / "nowhere", 77, 16)


@pytest.mark.parametrize(("seed", "count"), [(-1, None), (1, None), (2, None), (2**31, None), (5, 7), (5, -1)])
def test_seeds_and_counts_that_cannot_measure(tmp_path: Path, seed: int, count: int | None) -> None:
    with pytest.raises(BadParameter, match=r"seed|count"):
        run_verifications([], tmp_path, seed, count)


def test_json_and_table(tmp_path: Path, fake_world: Any) -> None:
    fake_world.figures["vae"] = 0.5
    train_models(["vae", "faces", "judge"], tmp_path, tmp_path / "work", verify=False)
    rows = run_verifications(["vae"], tmp_path, 9)
    plain = json.loads(json.dumps(rows_as_json(rows, 9, None), allow_nan=False))
    assert plain["passed"] is False
    assert plain["rows"][0] == {
        "model": "vae", "name": "vae score", "goal": 0.9, "figure": 0.5, "at_least": True, "passed": False,
    }  # fmt: skip
    assert plain["rows"][2]["goal"] is None
    shown = io.StringIO()
    print_rows(rows, Console(file=shown, width=100))
    lines = [line for line in shown.getvalue().splitlines() if "vae" in line]
    assert "at least 0.9" in lines[0]
    assert "no" in lines[0]
    assert "at most 0.1" in lines[1]
    assert "yes" in lines[1]
    assert "12.5" in lines[2]


def test_what_is_missing_is_said_before_anything_is_measured(tmp_path: Path, fake_world: Any) -> None:
    with pytest.raises(BadFile, match="no files of clip; `difflora world train clip`"):
        run_verifications(["clip"], tmp_path / "nowhere", 9)
    train_models(["vae", "clip", "detector"], tmp_path, tmp_path / "work", verify=False)
    with pytest.raises(BadFile, match="no files of recogniser, which vae is measured with"):
        run_verifications(["clip", "vae"], tmp_path, 9)
    assert fake_world.verified == []


def test_goal_in_words() -> None:
    assert goal_in_words(0.98, True) == "at least 0.98"
    assert goal_in_words(0.25, False) == "at most 0.25"
    assert goal_in_words(float("nan"), True) == goal_in_words(None, True) == "-"


@pytest.mark.parametrize(("figure", "code"), [(0.95, 0), (0.5, 1)])
def test_exit_code_says_whether_all_passed(
    tmp_path: Path, fake_world: Any, figure: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_world.figures["clip"] = figure
    train_models(["clip"], tmp_path, tmp_path / "work", verify=False)
    with pytest.raises(SystemExit) as stopped:
        main([
            "world", "verify", "clip", "--seed", "9", "--assets", str(tmp_path), "--json", str(tmp_path / "bars.json")
        ])  # fmt: skip
    assert stopped.value.code == code
    assert "clip score" in capsys.readouterr().out
    assert json.loads((tmp_path / "bars.json").read_text())["passed"] is (code == 0)


def test_record_writes_the_figures_down(tmp_path: Path, fake_world: Any) -> None:
    train_models(["clip"], tmp_path, tmp_path / "work", verify=False)
    with pytest.raises(SystemExit):
        main(["world", "verify", "clip", "--seed", "9", "--assets", str(tmp_path), "--record"])
    record = json.loads((tmp_path / "MANIFEST.json").read_text())["models"]["clip"]
    assert record["bars_seed"] == 9
    assert record["bars"][0]["figure"] == 0.95
    assert "| clip | clip score | at least 0.9 | 0.95 | passed |" in (tmp_path / "README.md").read_text()


def test_a_model_without_code_is_named(tmp_path: Path, fake_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train_models(["dino"], tmp_path, tmp_path / "work", verify=False)
    monkeypatch.delattr(sys.modules["difflora.world.dino"], "verify_dino")
    with pytest.raises(DiffLoRAError, match=r"difflora\.world\.dino has no verify_dino"):
        run_verifications(["dino"], tmp_path, 9)
