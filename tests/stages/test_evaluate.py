from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from difflora.cli import main
from difflora.folders import read_json
from difflora.stages.candidate import protocol
from difflora.stages.evaluate import lineage
from difflora.stages.params import load_params
from difflora.stages.workspace import Workspace

ROOT = Path(__file__).parents[2]


def test_what_was_run_is_told_by_preset_commit_and_data(tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    for name in ("params.yaml", "presets/mine.yaml"):
        shutil.copy(ROOT / "params.yaml", tmp_path / name)
    (tmp_path / "presets" / "broken.yaml").write_text("models: 3")
    workspace = Workspace(tmp_path, load_params(tmp_path / "params.yaml"))
    assert lineage(workspace) == {"preset": "mine", "commit": None, "data": None}
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    values["evaluate"]["people"] = 3
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    stages = {"evaluate": {"deps": ["data/corpus", "assets"]}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    made = {"stages": {"corpus": {"outs": [{"path": "data/corpus", "md5": "abc.dir"}]}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(made))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=n@example.com"]
    for words in (["init", "-q"], ["add", "dvc.yaml"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    workspace = Workspace(tmp_path, load_params(tmp_path / "params.yaml"))
    found = lineage(workspace)
    assert found["preset"] == "none: own parameters"
    assert found["data"] == {"data/corpus": "abc.dir"}
    assert len(found["commit"]) == 40
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    assert lineage(workspace)["commit"] == f"{found['commit']}, with changes that are not committed"


def test_what_is_kept_for_show_does_not_change_what_is_compared(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())

    def of(**changes: object) -> str:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump({**values, "evaluate": {**values["evaluate"], **changes}}))
        return protocol(load_params(path))

    assert of(store_pictures={"people": 2, "extremes": 0}, sheet_people=3) == of()
    assert of(people=31) != of()


def test_other_settings_and_models_are_measured_beside_the_chains_own(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", "--params", str(chain / "params.yaml"), "--methods", "generated", *words])
        assert isinstance(stopped.value.code, int)
        return stopped.value.code

    before = {path.name: path.read_bytes() for path in (chain / "reports").iterdir() if path.is_file()}
    out, shipped = tmp_path / "out", chain / "models" / "difflora"
    assert run("--model", str(shipped), "--strengths", "1", "--num-inference-steps", "1", "-o", str(out)) == 0
    assert f"the page: {out / 'evaluation.html'}" in capsys.readouterr().out
    found = read_json(out / "evaluation.json")
    assert list(found["methods"]) == ["base", "generated", "real"]
    assert found["setting"]["model"] == read_json(shipped / "model_index.json")["version"]
    assert {path.name: path.read_bytes() for path in (chain / "reports").iterdir() if path.is_file()} == before
    assert run("-o", str(chain / "reports")) == 2
    assert "is the chain's own" in capsys.readouterr().err
    assert run("--picture-steps", "0") == 2
    assert "evaluate.pictures.steps" in capsys.readouterr().err
    assert run("--people", "1") == 2
    assert "evaluate.people" in capsys.readouterr().err
    assert run("--protocol", "nobody's") == 2
    assert "nobody's" in capsys.readouterr().err
    assert run("--model", str(tmp_path / "nowhere")) == 2
    assert "nowhere" in capsys.readouterr().err
