"""Flows, stages and workers killed in the middle of their work: nothing half-written, and the same bytes in the end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from difflora.stages.run import STAGES, run_stage
from flows.corpus import corpus
from tests.flows.clone import environment, run_dvc

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


@pytest.mark.timeout(600)
def test_a_corpus_shared_out_ends_in_the_same_bytes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    values = yaml.safe_load((repository / "params.yaml").read_text())
    values["corpus"]["people_at_once"] = 4
    (repository / "params.yaml").write_text(yaml.safe_dump(values))
    whole = _whole(repository, monkeypatch, "identities", "corpus")
    text = corpus(root=repository, workers=2)
    assert "3 batches were missing; shared out over 2 workers, 0 parts failed." in text
    assert not (repository / "data" / "parts").exists()
    _same(repository / "data" / "corpus", whole / "data" / "corpus")


AT_WORK = {
    "identities": "data/people/people/*.safetensors",
    "corpus": "data/corpus/index.jsonl",
    "lae": "data/checkpoints/lae/*/state.safetensors",
    "dit": "data/checkpoints/dit/*/*/state.safetensors",
    "evaluate": None,
    "register": None,
}
"""Of each stage a file that it writes in the middle of its work; None where it writes at its end alone."""
BYTES = {
    "identities": "data/people",
    "corpus": "data/corpus",
    "lae": "models/lae",
    "dit": "models/dit",
    "evaluate": "reports/pictures",
    "register": "models/difflora/transformer",
}
"""What a stage leaves that is a function of its inputs alone."""


@pytest.mark.timeout(1200)
def test_every_stage_killed_with_its_flow_and_run_again_ends_in_the_same_bytes(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole = repository.parent / "whole"
    shutil.copytree(repository, whole)
    undisturbed = run_dvc(whole, "repro")
    assert undisturbed.returncode == 0, undisturbed.stderr
    for stage in STAGES:
        _kill_in(repository, stage)
        again = run_dvc(repository, "repro", "-s", stage)
        assert again.returncode == 0, stage + again.stdout + again.stderr
        _same(repository / BYTES[stage], whole / BYTES[stage])
        left = [path for path in repository.rglob(".*.*.*") if not {".git", ".dvc"} & set(path.parts)]
        assert not left, (stage, left)  # as an atomic write leaves when it is killed


@pytest.mark.timeout(600)
def test_two_ray_workers_one_killed_end_in_the_same_bytes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prefect_ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"] + os.pathsep + os.environ.get("PYTHONPATH", ""))
    values = yaml.safe_load((repository / "params.yaml").read_text())
    values["corpus"]["people_at_once"] = 2
    (repository / "params.yaml").write_text(yaml.safe_dump(values))
    whole = _whole(repository, monkeypatch, "identities", "corpus")
    killed: list[int] = []
    killer = threading.Thread(target=_kill_a_ray_worker, args=(repository, killed), daemon=True)
    killer.start()
    text = corpus(root=repository, runner="ray", workers=2)
    assert killed, "no worker could be killed in time"
    assert "6 batches were missing; shared out over 2 workers" in text
    _same(repository / "data" / "corpus", whole / "data" / "corpus")


def _kill_a_ray_worker(root: Path, killed: list[int]) -> None:
    """Kills the Ray worker that a part's process hangs on, as soon as there is a first batch."""
    import psutil

    until = time.monotonic() + 300
    while time.monotonic() < until and not list((root / "data" / "parts").glob("*.safetensors")):
        time.sleep(0.01)
    for process in psutil.process_iter(["pid", "cmdline"]):
        if "flows.leash" in (process.info["cmdline"] or []) and process.cwd() == str(root):
            parent = process.parent()
            if parent is not None:
                killed.append(parent.pid)
                parent.kill()
                return


def _whole(root: Path, monkeypatch: pytest.MonkeyPatch, *stages: str) -> Path:
    """The same clone after some steps in one process, uninterrupted."""
    whole = root.parent / "whole"
    shutil.copytree(root, whole)
    with monkeypatch.context() as context:
        context.chdir(whole)
        for stage in stages:
            run_stage(stage, whole / "params.yaml")
    return whole


KILLED = """
import sys
from pathlib import Path
from flows.command import run
run(["dvc", "repro", "-s", sys.argv[2]], Path(sys.argv[1]))
"""


def _kill_in(root: Path, stage: str) -> None:
    """Runs a stage as a flow does, and kills the flow's process in the middle of the work."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(root), stage], env=environment())
    sign = AT_WORK[stage]
    while process.poll() is None and not (any(root.glob(sign)) if sign else _has_computed(process.pid, stage)):
        time.sleep(0.002)
    assert process.poll() is None, f"{stage} was over before it could be killed"
    process.kill()
    process.wait()
    _wait_for_the_leash(root)


def _has_computed(pid: int, stage: str) -> bool:
    """Whether a stage's process has used more than the seconds that its imports take."""
    import psutil

    for child in psutil.Process(pid).children(recursive=True):
        try:
            if stage in child.cmdline() and "difflora" in " ".join(child.cmdline()) and child.cpu_times().user > 8:
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def _wait_for_the_leash(root: Path) -> None:
    """Until those that DVC's lock names are gone, which the leash sees to; a busy machine takes its time."""
    import psutil

    until = time.monotonic() + 60
    lock = root / ".dvc" / "tmp" / "rwlock"
    while lock.exists() and any(psutil.pid_exists(int(pid)) for pid in re.findall(r'"pid":\s*(\d+)', lock.read_text())):
        assert time.monotonic() < until, "the stage outlived its flow"
        time.sleep(0.1)


def _same(one: Path, other: Path) -> None:
    left, right = (
        {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in (one, other)
    )
    assert left == right
