"""``difflora people``: a person goes from everything in the workspace, wherever it is stopped, and stays away."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from difflora.cli import app
from difflora.corpus.forgotten import hash_of
from difflora.corpus.parts import Parts, TrainedBatch
from difflora.corpus.people import PeopleFolder, PeopleWriter, Person, no_boxes
from difflora.corpus.reader import Corpus
from difflora.corpus.splits import SplitSettings
from difflora.corpus.writer import CorpusWriter, NewRow
from difflora.errors import BadFile, BadParameter
from difflora.identities.forgotten import ForgottenList
from difflora.lora import LoraLayout
from difflora.stages.forget import finish_forgetting, forget
from difflora.stages.params import load_params
from difflora.stages.run import run_stage
from difflora.stages.workspace import Workspace
from difflora.training import ConditionFeatures

LAYOUT = LoraLayout.from_unet(nn.ModuleDict({"to_q": nn.Linear(5, 7)}), ("to_q",), 2)
CONSENT = {"source": "a study", "licence": "form 3", "date": "2020-01-02"}
NAMES = [f"rendered-0-{place:06d}" for place in range(4)]
GONE = NAMES[1]


@pytest.fixture(scope="module")
def made(chain_values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with four people, a LoRA each, features, a part and somebody who comes in."""
    root = tmp_path_factory.mktemp("made")
    values = {**chain_values, "identities": {**chain_values["identities"], "count": 4}}
    values["identities"]["pictures"] = {"candidates": 4, "keep": 4, "references": 2}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    run_stage("identities", root / "params.yaml")
    with CorpusWriter(root / "data" / "corpus", LAYOUT, {"steps": 1}, rows_per_shard=2) as corpus:
        rows = [
            NewRow(name, "train", "man", torch.full((LAYOUT.size,), place + 1.0), 0, 1, 0.5, CONSENT)
            for place, name in enumerate(NAMES)
        ]
        corpus.append(rows)
        corpus.finish()
    Parts(root / "data" / "parts", {}).save(NAMES[:2], TrainedBatch(rows[:2], {}))
    faces = torch.eye(8)
    features = ConditionFeatures(tuple(NAMES), faces, faces.clone(), torch.tensor([2, 2, 2, 2]), "a", "b")
    features.save(root / "data" / "features.safetensors")
    ablations = root / "data" / "ablations"  # rows with a corpus and a pipeline of their own
    shutil.copytree(root / "data" / "corpus", ablations / "corpus-a" / "corpus")
    shutil.copytree(root / "data" / "parts", ablations / "corpus-a" / "parts")
    (ablations / "dit-b").mkdir()
    shutil.copy(root / "data" / "features.safetensors", ablations / "dit-b" / "features.safetensors")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "workspace")


def _workspace(root: Path) -> Workspace:
    return Workspace(root, load_params(root / "params.yaml"))


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def _call(root: Path, *words: str, **more: Any) -> Any:
    return CliRunner().invoke(app, ["people", *words, "--params", str(root / "params.yaml")], **more)


def test_the_command_takes_a_person_out_of_everything(root: Path) -> None:
    before, splits = _bytes(root), {name: PeopleFolder(root / "data/people").line(name)["split"] for name in NAMES}
    features = ConditionFeatures.load(root / "data/features.safetensors")
    done = _call(root, "forget", GONE, "--yes")
    assert done.exit_code == 0, done.output
    assert f"forgotten: {GONE}" in done.output
    after = _bytes(root)
    for name, data in after.items():
        assert GONE not in name
        assert GONE.encode() not in data, name
    assert hash_of(GONE).encode() in after["data/incoming/forgotten.json"]
    assert not [name for name in after if name.startswith("data/parts/")]
    left = [name for name in NAMES if name != GONE]
    people, corpus = PeopleFolder(root / "data/people"), Corpus.open(root / "data/corpus")
    assert people.ids == left
    assert {name: people.line(name)["split"] for name in left} == {name: splits[name] for name in left}
    for name in left:
        path = f"data/people/people/{name}.safetensors"
        assert after[path] == before[path]
        assert corpus.of(name).unique().item() == int(name[-1]) + 1
    assert len(Corpus.open(root / "data/ablations/corpus-a/corpus")) == 3
    kept = ConditionFeatures.load(root / "data/features.safetensors")
    assert kept.names == ConditionFeatures.load(root / "data/ablations/dit-b/features.safetensors").names == tuple(left)
    assert torch.equal(kept.of(left[1:]).face, features.of(left[1:]).face)
    before_stage = _bytes(root / "data")
    run_stage("identities", root / "params.yaml")
    assert _bytes(root / "data") == before_stage, "a later build does not bring anybody back"


def test_older_data_that_are_brought_back_go_at_the_next_step(made: Path, root: Path) -> None:
    assert _call(root, "forget", GONE, "--yes").exit_code == 0
    expected = _bytes(root / "data")
    for name in ("people", "corpus", "parts"):
        shutil.rmtree(root / "data" / name, ignore_errors=True)
        shutil.copytree(made / "data" / name, root / "data" / name)
    assert GONE in PeopleFolder(root / "data/people").ids
    run_stage("identities", root / "params.yaml")
    assert _bytes(root / "data") == expected
    shutil.rmtree(root / "data/people")
    run_stage("identities", root / "params.yaml")
    assert PeopleFolder(root / "data/people").ids == [name for name in NAMES if name != GONE], "nor in a new folder"


def test_stopped_at_any_step_the_next_call_finishes_it(root: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(root, tmp_path / "whole")
    forget(_workspace(whole), GONE)
    expected, call, stopped = _bytes(whole), 0, True
    while stopped:
        call += 1
        work = shutil.copytree(root, tmp_path / f"work-{call}")
        with pytest.MonkeyPatch.context() as patch:
            _stop_at(call, patch)
            try:
                forget(_workspace(work), GONE)
                stopped = False
            except OSError:
                stopped = True
        for entry in (corpus := Corpus.open(work / "data/corpus")).entries:
            corpus.of(entry.identity)
        if call % 2:
            forget(_workspace(work), GONE)
        elif (work / "data/incoming/forgotten.json").exists():
            finish_forgetting(_workspace(work))  # as every step does that makes or reads people
        else:
            continue
        assert _bytes(work) == expected, f"stopped at step {call}"
        shutil.rmtree(work)
    assert call > 20


def _stop_at(call: int, patch: pytest.MonkeyPatch) -> None:
    """Raises at the ``call``-th time that something goes to the disk or away from it."""
    count = 0

    def guard(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == call:
                raise OSError("stopped")
            return real(*arguments, **options)

        return step

    for owner, name in ((os, "fsync"), (os, "ftruncate"), (Path, "replace"), (Path, "unlink"), (shutil, "rmtree")):
        patch.setattr(owner, name, guard(getattr(owner, name)))


def test_nobody_and_no_are_answers(root: Path) -> None:
    before = _bytes(root)
    assert isinstance(_call(root, "forget", "nobody", "--yes").exception, BadParameter)
    said = _call(root, "forget", GONE, input="n\n")
    assert said.exit_code != 0
    assert f"Forget {GONE}?" in said.output
    assert _bytes(root) == before
    assert _call(root, "forget", GONE, input="y\n").exit_code == 0
    assert _call(root, "forget", GONE, "--yes").exit_code == 0, "again is no error"


def test_all_ids_of_a_person_go_together(root: Path) -> None:
    shutil.rmtree(root / "data/people")
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    with PeopleWriter(root / "data/people", {}, SplitSettings()) as people:
        for name, facts in ((NAMES[0], {"merged": {"other": CONSENT}}), (NAMES[2], {})):
            person = Person(name, "man", images, ["a man"] * 2, images.clone(), ["a man"] * 2, no_boxes(images))
            people.add(person, similarity=0.5, consent=CONSENT, **facts)
        people.skip("other", f"merged into {NAMES[0]}", same_as=NAMES[0])
        people.skip("third", "the same person as other", same_as="other")
    done = _call(root, "forget", "third", "--yes")
    assert done.exit_code == 0, done.output
    assert f"forgotten: third, other, {NAMES[0]}" in done.output
    assert PeopleFolder(root / "data/people").ids == [NAMES[2]]
    assert not PeopleFolder(root / "data/people").skipped
    listed = ForgottenList(root / "data/incoming")
    assert all(name in listed for name in ("third", "other", NAMES[0]))
    assert NAMES[0] not in {entry.identity for entry in Corpus.open(root / "data/corpus").entries}


def test_what_else_holds_them_is_told_with_commands(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = root / "photographs"
    for name in (GONE, "another"):
        (photographs / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(photographs / name / "it's.png")
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["identities"] |= {
        "source": "difflora.identities.photographs:PeopleFolders",
        "options": {"folder": str(photographs), "consent": CONSENT},
    }
    values["continue_from"] = "models/champions/v1"
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    incoming = root / "data/incoming/drop"
    incoming.mkdir(parents=True)
    (incoming / "consent.json").write_text(json.dumps({"identity": GONE}))
    for folder in (
        "models/lae",
        "models/dit",
        "data/checkpoints/dit",
        ".dvc",
        "mlruns",
        "reports/runs",
        "reports/figures",
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "reports/evaluation_people.json").write_text("{}")
    (root / "reports/runs/evaluate.json").write_text('{"run_id": "abc123"}')
    (root / "reports/runs/lae.json").write_text('{"run_id": null}')
    (root / ".dvc/config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = /somewhere\n")
    (root / "mlruns/mlflow.db").write_bytes(b"")
    monkeypatch.setenv("DIFFLORA_TRACKING", "on")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("difflora.stages.leftovers.tracking_uri", lambda root: f"sqlite:///{root}/mlruns/mlflow.db")
    done = _call(root, "forget", GONE, "--yes")
    assert done.exit_code == 0, done.output
    lines = [line.strip() for line in done.output.splitlines()]
    for command in (
        f"rm -r {incoming}",
        f"""rm '{photographs}/{GONE}/it'"'"'s.png'""",
        f"rm -r {root}/data/checkpoints",
        "sed -i 's/^continue_from:.*/continue_from: null/' params.yaml",
        "dvc repro",
        "dvc repro evaluate",
        "difflora figures draw",
        f"rm -r {root}/data/ablations",
        "dvc gc --workspace",
        "dvc gc --workspace --cloud --remote store",
        "mlflow runs delete --run-id abc123",
        f"mlflow gc --backend-store-uri sqlite:///{root}/mlruns/mlflow.db",
    ):
        assert command in lines, done.output
    assert f"{root}/reports/figures: figures and pictures of people by name" in " ".join(lines)
    assert "another" not in done.output
    assert "None" not in done.output
    assert (photographs / GONE / "it's.png").exists(), "what is not the workspace's is left to the user"
    shutil.rmtree(photographs)
    assert "the source of people, which cannot be opened" in _call(root, "forget", GONE, "--yes").output


def test_list_and_show(root: Path) -> None:
    out = _call(root, "list").output
    assert all(name in out for name in NAMES)
    assert "Apache-2.0" in out
    assert "4 people" in out
    lines = json.loads(_call(root, "list", "--json").output)
    assert [line["identity"] for line in lines] == NAMES
    split = lines[0]["split"]
    chosen = json.loads(_call(root, "list", "--split", split, "--json").output)
    assert {line["split"] for line in chosen} == {split}
    shown = json.loads(_call(root, "show", GONE).output)
    assert (shown["lora"]["row"], shown["lora"]["consent"]) == (1, CONSENT)
    assert shown["consent"]["source"] == "rendered by difflora.world"
    with PeopleWriter(root / "data/people", PeopleFolder(root / "data/people").settings, SplitSettings()) as people:
        people.skip("twin", "the same person as x", same_as="x")
    assert "the same person as x" in _call(root, "list", "--skipped").output
    assert json.loads(_call(root, "show", "twin").output)["same_as"] == "x"
    for words, kind, said in (
        (["list", "--split", "all"], BadParameter, "--split all"),
        (["list", "--split", "train", "--skipped"], BadParameter, "--skipped"),
        (["show", "nobody"], BadParameter, "nobody called 'nobody'"),
    ):
        failed = _call(root, *words)
        assert isinstance(failed.exception, kind)
        assert said in str(failed.exception)
    shutil.rmtree(root / "data/people")
    assert isinstance(_call(root, "list").exception, BadFile)


@pytest.mark.parametrize("text", ["[]", '{"forgotten": ["a"]}', '{"forgotten": {"a": "2020-01-01"}}', "{"])
def test_a_damaged_list_stops_everything(root: Path, text: str) -> None:
    (root / "data/incoming").mkdir(parents=True, exist_ok=True)
    (root / "data/incoming/forgotten.json").write_text(text)
    with pytest.raises(BadFile, match=r"forgotten\.json"):
        run_stage("identities", root / "params.yaml")
