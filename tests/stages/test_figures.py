"""Figures of the tiny chain: they show nothing, but every one is made of what the steps really leave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from difflora.cli import main
from difflora.errors import BadFile, BadParameter
from difflora.evaluation.figures.listing import read_index
from difflora.stages.figures import FIGURES, draw
from difflora.stages.params import load_params
from difflora.stages.tracking import SILENT
from difflora.stages.workspace import Workspace


class _Logged:
    """Where artifacts go."""

    def __init__(self) -> None:
        self.artifacts: list[tuple[str, tuple[str, ...]]] = []

    def artifact(self, *paths: Path, folder: str = "") -> None:
        self.artifacts.append((folder, tuple(path.name for path in paths)))

    def __getattr__(self, name: str) -> Any:
        return getattr(SILENT, name)


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def _rows() -> list[dict[str, Any]]:
    return [{"people": n, "face_sim": {"mean": n / 100, "low": 0, "high": 1}} for n in (20, 40)]


def test_every_figure_is_drawn_from_what_the_chain_left(chain: Path, tmp_path: Path) -> None:
    root = tmp_path / "chain"
    shutil.copytree(chain, root)
    workspace, logged = Workspace(root, load_params(root / "params.yaml")), _Logged()
    drawn = draw(workspace, logged, progress=False)
    folder = root / "reports" / "figures"
    assert {path.stem for path in drawn.files} | set(drawn.skipped) == set(FIGURES)
    assert list(drawn.skipped) == ["train_people"]
    assert "reports/ablations.json: no such file; run `difflora ablate people` first" in drawn.skipped["train_people"]
    entries = read_index(folder)
    assert [entry.file for entry in entries] == [path.name for path in drawn.files]
    for path in drawn.files:
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 300
    captions = {entry.file: entry.caption for entry in entries}
    assert "2 held-out people, 1 prompts each" in captions["quartiles.png"]
    assert "after steps 1, 2 of the sampler" in captions["denoising.png"]
    assert logged.artifacts == [("figures", ("figures",))]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (root / "reports" / "ablations.json").write_text(json.dumps({"train_people": []}))  # other rows alone were made
    with pytest.raises(BadFile, match="has no two rows by the number of people; run `difflora ablate people` first"):
        draw(workspace, only=["train_people"], progress=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (root / "reports" / "ablations.json").write_text(json.dumps({"train_people": _rows()}))
    draw(workspace, only=["train_people", "ladder"], progress=False)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) == {*before, "train_people.png"}
    assert all(after[name] == data for name, data in before.items() if name != "index.json")


def test_what_is_lacking_is_said(
    chain_params: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(chain_params))
    workspace = Workspace(tmp_path, load_params(params))
    with pytest.raises(BadFile, match=r"evaluation\.json: no such file; run `difflora stage evaluate` first"):
        draw(workspace, progress=False)
    with pytest.raises(BadFile, match="run `difflora stage identities` first"):
        draw(workspace, only=["quartiles"], progress=False)
    with pytest.raises(BadParameter, match="no figure is named 'quartile'; there are: ladder,"):
        draw(workspace, only=["quartile"], progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "lae_loss.csv").write_text("step,loss\n1,0.5\n2,0.4\n")
    assert _run("figures", "draw", "--params", str(params)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == str(tmp_path / "reports" / "figures" / "curves.png")
    assert len(said) == len(FIGURES)
    assert all(line.startswith("no ") and line.endswith(" first") for line in said[1:])


def test_without_a_name_the_table_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run("figures") == 2
    said = capsys.readouterr().err
    assert "reports/evaluation.json: no such file; run `difflora stage evaluate` first" in said
    assert _run("figures", "other.json") == 2
    assert "other.json: no such file" in capsys.readouterr().err
    assert _run("figures", "--help") == 0
    assert "draw" in capsys.readouterr().out
    assert _run("figures", "draw", "--only", "x") == 2
    assert "params.yaml: no such file" in capsys.readouterr().err
