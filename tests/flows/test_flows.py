"""The flows as people run them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
import zc.lockfile

from difflora.corpus.forgotten import hash_of, tombstone
from difflora.corpus.lines import encode_line
from difflora.corpus.people import PeopleFolder
from difflora.errors import DiffLoRAError
from difflora.evaluation.subjects import as_jpeg
from difflora.files import write_json
from difflora.stages.champion import measure_champion
from difflora.stages.params import load_params
from difflora.stages.run import run_stage
from difflora.stages.workspace import Workspace
from flows import tasks
from flows.command import CommandFailed
from flows.full import full
from flows.promote import promote
from flows.retrain import PENDING, continue_from, look, retrain
from tests.flows.clone import run_dvc

ROOT = Path(__file__).parents[2]
OPEN = Path("mlflow/open.yaml")

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def tracked(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The clone, with its runs in its own sqlite store and a gate that lets everyone pass who is not worse."""
    monkeypatch.setenv("DIFFLORA_TRACKING", "on")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (repository / OPEN).write_text("thresholds: {}\n")
    return repository


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_chain_its_repetition_and_a_retraining(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = full(root=tracked, gate=OPEN)
    assert "New: identities, corpus, lae, dit, evaluate, register." in text
    assert text == _markdown("difflora-full")
    assert "| generated |" in text
    assert "data:image/jpeg;base64," in text
    assert "(difflora-embedded-" in text
    assert "difflora version 1" in text
    assert _status(tracked) == "Data and pipelines are up to date."
    _dvc_shows_losses_modules_and_figures(tracked)
    _one_parameter_reruns_what_depends_on_it(tracked)
    _pulled_there_is_nothing_to_do(tracked)
    _unchanged(tracked)
    _nobody_new(tracked)
    _somebody_new(tracked, monkeypatch)
    _a_clone_has_whoever_came_in(tracked)


def _dvc_shows_losses_modules_and_figures(root: Path) -> None:
    metrics = json.loads(run_dvc(root, "metrics", "show", "--json").stdout)[""]["data"]
    assert metrics["reports/lae.json"]["data"]["explained_train"] <= 1
    assert "generated" in metrics["reports/evaluation.json"]["data"]["methods"]
    assert run_dvc(root, "plots", "show").returncode == 0
    page = (root / "dvc_plots" / "index.html").read_text()
    for name in ("lae_loss.csv", "lae_modules.csv", "dit_loss.csv"):
        assert name in page
    shutil.rmtree(root / "dvc_plots")


def _one_parameter_reruns_what_depends_on_it(root: Path) -> None:
    path = root / "params.yaml"
    text = path.read_text()
    values = yaml.safe_load(text)
    values["register"]["num_inference_steps"] = 3
    path.write_text(yaml.safe_dump(values))
    assert "register.num_inference_steps" in run_dvc(root, "params", "diff").stdout
    stale = [line.rstrip(":") for line in _status(root).splitlines() if not line.startswith(("\t", " "))]
    assert stale == ["register"]
    path.write_text(text)


def _pulled_there_is_nothing_to_do(root: Path) -> None:
    assert run_dvc(root, "remote", "add", "-d", "store", str(root.parent / "store")).returncode == 0
    clone = _pushed_and_pulled(root)
    assert _status(clone) == "Data and pipelines are up to date."
    shutil.rmtree(clone)


def _a_clone_has_whoever_came_in(root: Path) -> None:
    """The drop folder itself is in no clone, so ``identities`` looks once, and finds everyone there."""
    assert run_dvc(root, "commit", "-f", "-q").returncode == 0  # steps that ran in this process
    clone = _pushed_and_pulled(root)
    assert not (clone / "data" / "incoming" / "volunteer-1").exists()
    done = run_dvc(clone, "repro", "-s", "identities")
    assert done.returncode == 0, done.stderr
    assert _status(clone) == "Data and pipelines are up to date."
    assert PeopleFolder(clone / "data" / "people").came_in("volunteer-1")


def _pushed_and_pulled(root: Path) -> Path:
    clone = root.parent / "second"
    assert run_dvc(root, "push", "-q").returncode == 0
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (
        ["git", "-C", str(root), "add", "-A"],
        ["git", "-C", str(root), *who, "commit", "-q", "-m", "A chain"],
        ["git", "clone", "-q", str(root), str(clone)],
    ):
        subprocess.run(command, check=True)
    pulled = run_dvc(clone, "pull", "-q")
    assert pulled.returncode == 0, pulled.stderr
    return clone


def _unchanged(root: Path) -> None:
    started = time.monotonic()
    text = full(root=root, gate=OPEN)
    assert "Nothing changed" in text
    assert "it is the champion already" in text
    text = full(root=root, gate=OPEN, promote=False)
    assert "Registered: difflora-candidates version 1 (difflora-embedded-" in text
    assert time.monotonic() - started < 120


def _nobody_new(root: Path) -> None:
    started = time.monotonic()
    text = retrain(root=root, gate=OPEN)
    assert "No new people" in text
    assert time.monotonic() - started < 20
    assert text == _markdown("difflora-retrain")


def _somebody_new(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC sees that the steps are stale; they are run without starting a Python each, which takes minutes."""
    monkeypatch.setattr(tasks, "repro", _in_this_process)
    monkeypatch.setattr(tasks, "measure_champion", _measured_in_this_process)
    monkeypatch.chdir(root)
    people = root / "data" / "people" / "people"
    before = {path.name: path.read_bytes() for path in people.iterdir()}
    _drop(root, "volunteer-1")
    _drop(root, "no-record")
    (root / "data" / "incoming" / "no-record" / "consent.json").unlink()
    assert "data/incoming" in _status(root)
    with monkeypatch.context() as killed:
        killed.setattr(tasks, "repro", _killed_after_identities)
        with pytest.raises(RuntimeError, match="killed"):
            retrain(root=root, gate=OPEN)
    text = retrain(root=root, gate=OPEN)  # whoever came in then is no news, and is learnt from all the same
    assert "continue_from" in _status(root)
    assert "1 new people (volunteer-1)" in text
    assert "without a consent record no picture is used" in text
    assert "trained from the champion `difflora-embedded-" in text
    assert "candidate - champion" in text
    after = {path.name: path.read_bytes() for path in people.iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"volunteer-1.safetensors"}
    line = PeopleFolder(root / "data" / "people").line("volunteer-1")
    assert line["consent"]["licence"] == "test"
    assert "continue_from: models/champions/difflora-embedded-" in (root / "params.yaml").read_text()
    assert "No new people" in retrain(root=root, gate=OPEN)
    _drop(root, "volunteer-2")
    for picture in (root / "data" / "incoming" / "volunteer-2").glob("*.jpg"):
        picture.write_bytes(as_jpeg(torch.full((3, 64, 64), 90, dtype=torch.uint8)))
    stale = _status(root)
    assert "None of volunteer-2 could be taken in" in retrain(root=root, gate=OPEN)
    assert _status(root) == stale, "nothing but people was made again"


def test_nobody_forgotten_is_of_an_unfinished_retraining(tmp_path: Path) -> None:
    lines = [{"identity": "anna"}, {"identity": "ben"}, tombstone(hash_of("clara"))]
    (tmp_path / "data" / "people").mkdir(parents=True)
    (tmp_path / "data" / "people" / "people.jsonl").write_bytes(b"".join(map(encode_line, lines)))
    assert look.fn(tmp_path) == ([], [], {})
    write_json(tmp_path / PENDING, {"people": [hash_of(name) for name in ("anna", "clara", "dora")]})
    assert look.fn(tmp_path) == ([], ["anna"], {})


def _killed_after_identities(stage: str, root: Path, parent: str | None) -> tasks.StageDone:
    if stage != "identities":
        raise RuntimeError("killed")
    return _in_this_process(stage, root, parent)


def _in_this_process(stage: str, root: Path, parent: str | None) -> tasks.StageDone:
    run_stage(stage, root / "params.yaml")
    return tasks.StageDone(stage, "ran", 0.0)


def _measured_in_this_process(root: Path) -> None:
    measure_champion(Workspace(root, load_params(root / "params.yaml")))


def _drop(root: Path, identity: str) -> None:
    """Puts pictures of somebody who is there, which nobody tells, under a new id into the drop folder."""
    folder = root / "data" / "incoming" / identity
    folder.mkdir()
    known = PeopleFolder(root / "data" / "people")
    person = known.person(known.ids[0])
    names = []
    for place, image in enumerate([*person.images, *person.references]):
        names.append(f"{place}.jpg")
        (folder / names[-1]).write_bytes(as_jpeg(image))
    record = {"identity": identity, "source": "test", "licence": "test", "date": "2026-01-02", "pictures": names}
    (folder / "consent.json").write_text(json.dumps(record))


def _markdown(key: str) -> str:
    """The newest artifact of a key."""
    from prefect.artifacts import Artifact

    found = Artifact.get(key)
    assert found is not None
    return str(found.data)


def _status(root: Path) -> str:
    return run_dvc(root, "status").stdout.strip()


def test_a_held_lock_is_waited_for(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    (repository / ".dvc" / "tmp").mkdir()
    lock = zc.lockfile.LockFile(str(repository / ".dvc" / "tmp" / "lock"))

    def passes_by(task: Any, task_run: Any, state: Any) -> bool:
        held.append(str(state.data))
        if len(held) == 1:
            lock.close()
        return tasks.passes_by(task, task_run, state)

    stage = tasks.repro.with_options(retry_delay_seconds=0.1, retry_condition_fn=passes_by)
    with pytest.raises(CommandFailed, match=r"identities\.count"):
        _in_flow(stage, "identities", _broken(repository))
    assert "DVC's lock is held" in held[0]


def _broken(root: Path) -> Path:
    """A clone whose parameters are out of range, so that a stage fails at once."""
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["identities"]["count"] = 0
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    return root


def _in_flow(stage: Any, *arguments: Any) -> Any:
    from prefect import flow

    return flow(name="one-stage")(lambda: stage(*arguments))()


def test_a_server_that_is_away_is_tried_again_before_any_work(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFLORA_TRACKING", "on")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    begin = tasks.begin.with_options(retry_delay_seconds=0.1, retries=2)
    with pytest.raises(DiffLoRAError, match="the tracking server is away"):
        _in_flow(begin, repository, "full")
    assert not (repository / "data" / "people").exists()


def test_a_folder_without_a_chain_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiffLoRAError, match=r"dvc\.yaml: no such file"):
        promote(root=tmp_path)


def test_continuing_changes_one_line_of_the_parameters(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("# kept\nlae: {} # kept too\ncontinue_from: null\n")
    continue_from(tmp_path, tmp_path / "models" / "champions" / "x-1")
    assert path.read_text() == "# kept\nlae: {} # kept too\ncontinue_from: models/champions/x-1\n"
    continue_from(tmp_path, None)
    assert path.read_text() == "# kept\nlae: {} # kept too\ncontinue_from: null\n"


def test_deployments_have_names_schedules_limits_and_described_parameters() -> None:
    from flows.serve import deployments

    made = {one.name: one for one in deployments()}
    assert set(made) == {"full", "retrain", "corpus", "promote"}
    for one in made.values():
        assert one.flow_name == "difflora"
        assert one.parameters["root"] == str(ROOT)
        assert one.concurrency_limit == 1
        described = one._parameter_openapi_schema.properties
        assert all(value.get("description") for value in described.values()), one.name
    assert [schedule.active for schedule in made["retrain"].schedules] == [True]
