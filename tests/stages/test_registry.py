"""Runs and registry in a real sqlite store, around a model folder that the tiny chain made."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from difflora.errors import BadFile, BadParameter, Busy, DiffLoRAError
from difflora.files import sha256_file, write_json
from difflora.manifest import NAME, write_manifest
from difflora.models import DiffLoRAPipeline
from difflora.stages.candidate import MANIFEST, PEOPLE, VERSION
from difflora.stages.champion import measure_champion
from difflora.stages.gate import Gate, judge, load_gate
from difflora.stages.params import Params, load_params
from difflora.stages.registry import CANDIDATES, MODEL, Registry
from difflora.stages.run import STAGES, run_stage
from difflora.stages.tracking import PARENT, begin_chain, end_chain, run_id_of, send_left, track
from difflora.stages.workspace import Workspace

mlflow = pytest.importorskip("mlflow")
ROOT = Path(__file__).parents[2]
OPEN = Gate()


@pytest.fixture(scope="module")
def tracked(chain_values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace after all steps, each of them tracked under one parent run."""
    root = tmp_path_factory.mktemp("tracked")
    (root / "params.yaml").write_text(yaml.safe_dump(chain_values))
    before = {name: os.environ.get(name) for name in ("DIFFLORA_TRACKING", "MLFLOW_TRACKING_URI", PARENT)}
    os.environ["DIFFLORA_TRACKING"] = "on"
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    parent = begin_chain(root, "full", {"difflora.flow": "full"})
    assert parent is not None
    os.environ[PARENT] = parent
    for name in STAGES:
        run_stage(name, root / "params.yaml")
    os.environ.pop(PARENT)
    end_chain(root, parent, "FINISHED")
    yield root
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture
def registry(tracked: Path) -> Iterator[Registry]:
    """The registry as the chain left it, with one candidate and no champion."""
    made = Registry(tracked)
    yield made
    for version in made.versions():
        made.client.delete_model_version(MODEL, version.version)
    for version in made.versions(CANDIDATES):
        if int(version.version) > 1:
            made.client.delete_model_version(CANDIDATES, version.version)
    made.client.set_registered_model_alias(CANDIDATES, "challenger", "1")


def _params(root: Path) -> Params:
    return load_params(root / "params.yaml")


def _another(registry: Registry, tmp_path: Path, version: str, worse: float = 0.0) -> Any:
    """Registers a second model, of other bytes, with every person's likeness lower by ``worse``."""
    model, reports = tmp_path / version, tmp_path / "reports"
    shutil.copytree(registry.root / "models" / "difflora", model)
    index = json.loads((model / "model_index.json").read_text())
    write_json(model / "model_index.json", index | {"version": version})
    write_manifest(model)
    people = json.loads((registry.root / "reports" / "evaluation_people.json").read_text())
    scores = people["best"]["generated"]
    scores["face_sim"] = [score - worse for score in scores["face_sim"]]
    write_json(reports / "evaluation_people.json", people)
    shutil.copy(registry.root / "reports" / "evaluation.json", reports)
    run_id = run_id_of(registry.root, "register")
    assert run_id is not None
    run = registry.client.create_run(registry.client.get_run(run_id).info.experiment_id).info.run_id
    return registry.register(_params(registry.root), run, model, reports)


def test_every_stage_has_a_run_under_the_chains(tracked: Path) -> None:
    client = Registry(tracked).client
    runs = {name: client.get_run(str(run_id_of(tracked, name))) for name in STAGES}
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs.values()}) == 1
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["lae"].data.params["lae.loop.steps"] == "4"
    assert runs["lae"].data.metrics["compression_ratio"] > 1
    steps = [metric.step for metric in client.get_metric_history(runs["lae"].info.run_id, "lae/loss")]
    assert steps == [2, 4]
    assert [one.step for one in client.get_metric_history(runs["dit"].info.run_id, "effect/loss")] == [2]
    assert "methods.generated.face_sim.mean" in runs["evaluate"].data.metrics
    left = {file.path for file in client.list_artifacts(runs["evaluate"].info.run_id)}
    assert {"evaluation.json", "people.png"} <= left
    assert {file.path for file in client.list_artifacts(runs["register"].info.run_id)} >= {"README.md", "model"}
    parent = client.get_run(runs["lae"].data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"
    assert not list((tracked / "data" / "runs").iterdir()), "nothing waits to be sent"


def test_registering_again_registers_nothing(tracked: Path, registry: Registry) -> None:
    [version] = registry.versions(CANDIDATES)
    label = f"{CANDIDATES} version {version.version} ({version.tags[VERSION]})"
    assert registry.candidate(tracked / "models" / "difflora") == label
    assert version.aliases == ["challenger"]
    run_stage("register", tracked / "params.yaml")
    assert [one.version for one in registry.versions(CANDIDATES)] == [version.version]


def test_served_from_code_it_gives_the_pipelines_lora(
    tracked: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.pyfunc.scoring_server import init

    from difflora.corpus.people import PeopleFolder
    from difflora.evaluation.subjects import as_jpeg
    from difflora.lora import LoraWeights

    people = PeopleFolder(tracked / "data" / "people")
    picture = as_jpeg(people.person(people.split("test")[0]).references[0])
    served = _served(init, f"models:/{CANDIDATES}@challenger")
    body = {"inputs": {"image": [base64.b64encode(picture).decode()]}, "params": {"seed": 3, "scale": 0.5}}
    answer = served.post("/invocations", json=body)
    assert answer.status_code == 200, answer.text
    [made] = answer.json()["predictions"]
    (tmp_path / "me.safetensors").write_bytes(base64.b64decode(made["lora"]))
    lora = LoraWeights.load(tmp_path / "me.safetensors")
    assert lora.scale == 0.5
    assert json.loads(made["metadata"])["seed"] == "3"
    assert lora.provenance["model"] == json.loads(made["metadata"])["model"]
    empty = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (64, 64)).save(empty, "PNG")
    for image, params, said in (
        ("no base64!", {}, "is no base64"),
        (base64.b64encode(b"no picture").decode(), {}, "not a whole JPEG, PNG or WebP"),
        (base64.b64encode(empty.getvalue()).decode(), {}, "0 faces found"),
        (body["inputs"]["image"][0], {"num_inference_steps": -1}, "num_inference_steps"),  # type: ignore[index]
        (body["inputs"]["image"][0], {"scale": -1.0}, "scale"),  # type: ignore[index]
    ):
        answer = served.post("/invocations", json={"inputs": {"image": [image]}, "params": params})
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["message"]
    with monkeypatch.context() as broken:
        broken.setattr(DiffLoRAPipeline, "__call__", _damaged)
        answer = served.post("/invocations", json=body)
    assert answer.status_code == 500, "no fault of the request's"
    for malformed in (
        {"inputs": {"picture": ["x"]}},
        {"wrong": 1},
        {"inputs": {"image": ["x"]}, "params": {"seed": "a"}},
    ):
        answer = served.post("/invocations", json=malformed)
        assert answer.status_code == 400, answer.text
        assert answer.json()["message"]


def _damaged(*_: Any, **__: Any) -> None:
    raise BadFile("a file was changed")


def _served(init: Any, uri: str) -> Any:
    from fastapi.testclient import TestClient

    return TestClient(init(mlflow.pyfunc.load_model(uri)), raise_server_exceptions=False)


def test_promotion_rollback_and_the_same_again(registry: Registry, tmp_path: Path) -> None:
    first = registry.promote(OPEN)
    assert first.promoted
    assert registry.promote(OPEN).verdict.lines == ["it is the champion already"]
    assert len(registry.versions()) == 1
    with pytest.raises(BadParameter, match="is the first"):
        registry.rollback()
    second = _another(registry, tmp_path, "second")
    assert registry.promote(OPEN).promoted
    champion = registry.champion()
    assert champion is not None
    assert champion.tags[VERSION] == "second"
    assert champion.tags[MANIFEST] == second.tags[MANIFEST]
    folder = registry.champion_folder()
    assert folder is not None
    assert folder.name == "second"
    manifest = folder / NAME
    manifest.write_text(manifest.read_text() + "\n")  # changed, and still whole in itself
    again = registry.champion_folder()
    assert again == folder
    assert sha256_file(manifest) == champion.tags[MANIFEST]
    old, new = registry.rollback()
    assert "second" in old
    assert "second" not in new
    champion = registry.champion()
    assert champion is not None
    assert champion.version in (1, "1")
    kept = registry.promote(OPEN)
    assert not kept.promoted
    assert "was rolled back" in kept.verdict.lines[0]
    assert registry.promote(OPEN, version=str(second.version)).promoted


def test_figures_of_the_champion_before_do_not_stay(registry: Registry, tmp_path: Path) -> None:
    registry.promote(OPEN)
    champion, workspace = registry.champion(), Workspace(registry.root, load_params(registry.root / "params.yaml"))
    left = [workspace.report(name) for name in ("champion.json", "champion_people.json")]
    for path in left:
        write_json(path, {"champion": "the one before"})
    assert champion is not None
    evaluated = workspace.report(PEOPLE).read_bytes()
    assert measure_champion(workspace) == champion.tags[VERSION], "its own model, which the step evaluate measured"
    assert json.loads(left[0].read_text())["champion"] == champion.tags[VERSION]
    assert left[1].read_bytes() == evaluated
    _another(registry, tmp_path, "worse", worse=0.2)
    kept = registry.promote(OPEN, measured=registry.root / "reports")
    assert "worse beyond its interval" in kept.verdict.lines[0]


def test_a_worse_one_is_kept_out_beyond_the_interval(registry: Registry, tmp_path: Path) -> None:
    registry.promote(OPEN)
    _another(registry, tmp_path, "worse", worse=0.2)
    kept = registry.promote(OPEN)
    assert not kept.promoted
    assert "worse beyond its interval" in kept.verdict.lines[0]
    assert registry.promote(OPEN, force=True).promoted


@pytest.mark.parametrize("changed", ["transformer/config.json", "MLmodel", "personalize.py"])
def test_changed_bytes_are_refused(registry: Registry, tmp_path: Path, changed: str) -> None:
    version = _another(registry, tmp_path, "changed")
    where = Path(registry.client.get_model_version_download_uri(CANDIDATES, version.version).removeprefix("file://"))
    path = next(where.rglob(changed))
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(BadFile, match=f"{CANDIDATES} version {version.version}"):
        registry.promote(OPEN, force=True)
    with pytest.raises(BadFile, match=r"changed|not what was registered"):
        registry.verify(version)
    assert registry.champion() is None


SCRIPT = """
import sys
from pathlib import Path
from difflora.stages.gate import Gate
from difflora.stages.registry import Registry
print(Registry(Path(sys.argv[1])).promote(Gate()).verdict.lines)
"""


def test_two_at_once_promote_once(registry: Registry) -> None:
    command = [sys.executable, "-c", SCRIPT, str(registry.root)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("the champion already" in words for words in said) == 1
    assert len(registry.versions()) == 1


def test_a_promotion_that_died_before_its_alias_is_ended_by_the_next(registry: Registry) -> None:
    registry.client.copy_model_version(f"models:/{CANDIDATES}/1", MODEL)
    assert registry.champion() is None
    assert registry.promote(OPEN).promoted
    assert len(registry.versions()) == 1


def test_the_shipped_gate_is_valid_and_names_what_fails(tracked: Path) -> None:
    gate = load_gate(ROOT / "mlflow" / "gate.yaml")
    people = {"people": ["a"], "best": {"generated": {"face_sim": [0.5]}}}
    verdict = judge(gate, {"methods": {"generated": {"faces_found": {"mean": 0.2}}}}, people, None)
    assert not verdict.passed
    assert any("faces_found.mean: 0.2000 is below 0.9" in line for line in verdict.lines)
    assert any("face_sim.low: is not among the figures" in line for line in verdict.lines)
    with pytest.raises(BadParameter, match="different people"):
        judge(gate, {}, people, {"people": ["b"], "best": {}})


def test_a_server_that_is_away_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFLORA_TRACKING", "on")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(Busy, match="the tracking server is away") as raised, track(tmp_path, "lae", {}):
        pytest.fail("the stage was begun")
    assert "secret" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_sent_is_sent_later(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    away, real = threading.Event(), MlflowClient.log_batch

    def log_batch(self: Any, *args: Any, **kwargs: Any) -> Any:
        if away.is_set():
            raise ConnectionError("away")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    with track(tracked, "lae", {"a": {"b": 1}}) as tracker:
        away.set()
        tracker.curve("lae")(1, {"loss": 2.0})
    assert [path.name for path in (tracked / "data" / "runs").iterdir()] == [f"lae-{tracker.run_id}.json"]
    away.clear()
    assert send_left(tracked) == 1
    run = Registry(tracked).client.get_run(str(tracker.run_id))
    assert (run.data.params["lae.a.b"], run.data.metrics["lae/loss"], run.info.status) == ("1", 2.0, "FINISHED")


def test_a_killed_stage_goes_on_in_its_run_and_a_failed_one_says_why(tracked: Path) -> None:
    child = os.fork()
    if child == 0:
        with track(tracked, "dit", {"a": 1}):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    killed = json.loads((tracked / "data" / "runs" / "dit.json").read_text())["run_id"]
    with pytest.raises(DiffLoRAError):
        _fail_in_a_run(tracked, killed)
    run = Registry(tracked).client.get_run(killed)
    assert (run.info.status, run.data.tags["difflora.error"]) == ("FAILED", "models/lae: no such folder")


def _fail_in_a_run(root: Path, run_id: str) -> None:
    with track(root, "dit", {"a": 1}) as tracker:
        assert tracker.run_id == run_id
        raise DiffLoRAError("models/lae: no such folder")
