from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from difflora.errors import BadFile
from difflora.stages.ablations.catalogue import Ablation, rows_called
from difflora.stages.ablations.run import run_ablations
from difflora.stages.ablations.workspace import AblationWorkspace
from difflora.stages.params import load_params
from difflora.stages.workspace import Workspace

ROWS = ["no_face", "people_16", "guidance_1.5"]
FEWER = Ablation("fewer", "fewer training people", {"corpus.train_people": 4})


@pytest.fixture(scope="module")
def ablated(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    """A copy of the chain with some rows made."""
    root = tmp_path_factory.mktemp("ablated") / "chain"
    shutil.copytree(chain, root)
    workspace = Workspace(root, load_params(root / "params.yaml"))
    return workspace, run_ablations(workspace, [*rows_called(ROWS), FEWER])


def test_rows_stand_side_by_side(ablated: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, figures = ablated
    assert list(figures["rows"]) == ["full", "no_face", "guidance_1.5", "fewer"]
    assert "people_16" in figures["left_out"], "there are fewer training people"
    row = figures["rows"]["no_face"]
    assert row["against"] == "full"
    full = figures["rows"]["full"]["best"]["face_sim"]["mean"]
    assert row["minus"]["face_sim"]["mean"] == pytest.approx(row["best"]["face_sim"]["mean"] - full, abs=2e-4)
    assert json.loads(workspace.report("ablations.json").read_text()) == figures
    chain = json.loads(workspace.report("evaluation.json").read_text())
    assert figures["rows"]["full"]["native"]["face_sim"] == chain["methods_native"]["generated"]["face_sim"]


def test_likeness_by_people_ends_with_the_chain_itself(ablated: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, figures = ablated
    few, everyone = figures["train_people"]
    assert (few["people"], everyone["people"]) == (4, len(workspace.open_corpus().indices("train")))
    assert everyone["face_sim"] == figures["rows"]["full"]["best"]["face_sim"]


def test_only_what_a_change_touches_is_made(ablated: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = ablated
    made = sorted(path.name.split("-")[0] for path in (workspace.root / "data" / "ablations").glob("*-*"))
    assert made == ["dit", "dit", *["evaluate"] * 4, "lae"], "no corpus, and an autoencoder for fewer people alone"


def test_a_row_that_was_made_is_not_made_again_and_a_broken_off_one_goes_on(
    ablated: tuple[Workspace, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, figures = ablated
    steps: list[str] = []
    for step in ("corpus", "lae", "dit", "evaluate"):
        monkeypatch.setattr(f"difflora.stages.{step}.run", lambda *_, step=step: steps.append(step))
    again = run_ablations(workspace, [*rows_called(["no_face", "guidance_1.5"]), FEWER])
    assert again["rows"] == figures["rows"]
    assert steps == []
    for path in (workspace.root / "data" / "ablations").glob("dit-*/made.json"):
        path.unlink()
    run_ablations(workspace, rows_called(["no_face"]))
    assert steps == ["dit"]


def test_other_inputs_are_another_row(ablated: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = ablated
    before = AblationWorkspace.below(workspace, workspace.params).folder("evaluate")
    assert AblationWorkspace.below(workspace, workspace.params).folder("evaluate") == before
    weights = workspace.lae / "diffusion_pytorch_model.safetensors"
    data = weights.read_bytes()
    try:
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert AblationWorkspace.below(workspace, workspace.params).folder("evaluate") != before
    finally:
        weights.write_bytes(data)


def test_the_chain_comes_first(tmp_path: Path, chain: Path) -> None:
    shutil.copy(chain / "params.yaml", tmp_path)
    workspace = Workspace(tmp_path, load_params(tmp_path / "params.yaml"))
    with pytest.raises(BadFile, match="run `difflora stage identities` first"):
        run_ablations(workspace, rows_called(["full"]))
    for folder in ("data", "models/lae"):
        shutil.copytree(chain / folder, tmp_path / folder, dirs_exist_ok=True)
    (tmp_path / "data" / "features.safetensors").unlink()
    with pytest.raises(BadFile, match="run `difflora stage dit` first"):
        run_ablations(workspace, rows_called(["full"]))
