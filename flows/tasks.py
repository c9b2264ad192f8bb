"""What the flows are made of: a task a stage, and those around them."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from difflora.errors import Busy, DiffLoRAError
from difflora.stages.tracking import PARENT, begin_chain, end_chain
from flows.command import run

_DELAYS = [10.0, 20.0, 40.0, 60.0, 120.0, 300.0]
_EVERY = 5.0

StageStatus = Literal["ran", "unchanged", "restored"]


@dataclass(frozen=True)
class StageDone:
    """What a stage did.

    Attributes:
        stage: its name.
        status: whether it ran, had nothing to do, or came out of DVC's cache.
        seconds: wall time.
    """

    stage: str
    status: StageStatus
    seconds: float


def passes_by(task: Any, task_run: Any, state: Any) -> bool:
    """Whether a fault is worth another try: a held lock, a server that is away; nothing else is."""
    return isinstance(state.data, Busy)


RETRY: dict[str, Any] = {
    "retries": len(_DELAYS),
    "retry_delay_seconds": _DELAYS,
    "retry_condition_fn": passes_by,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""Options of every task that may meet such a fault."""


class Progress:
    """A progress artifact, told at most every few seconds; a server that is away does not stop the work."""

    def __init__(self, stage: str) -> None:
        self._stage, self._last, self._id = stage, 0.0, None
        with contextlib.suppress(Exception):
            made = create_progress_artifact(0.0, key=f"{stage}-progress", description=f"{stage}: starting")
            self._id = made if isinstance(made, UUID) else None

    def __call__(self, percent: float, words: str) -> None:
        """Tells percent done and the bar's words."""
        if self._id is None or (time.monotonic() - self._last < _EVERY and percent < 100):
            return
        self._last = time.monotonic()
        with contextlib.suppress(Exception):
            update_progress_artifact(self._id, progress=percent, description=f"{self._stage}: {words}")


@task(name="stage", task_run_name="{stage}", **RETRY)
def repro(stage: str, root: Path, parent: str | None = None) -> StageDone:
    """One stage, if DVC says that it is stale: ``dvc repro -s STAGE``.

    Args:
        stage: its name in dvc.yaml.
        root: of the workspace.
        parent: id of the chain's run.

    Raises:
        Busy: for a held DVC lock or a tracking server that is away; tried again.
        CommandFailed: for all else; the message is the stage's own.
    """
    logger, started, progress = get_run_logger(), time.monotonic(), Progress(stage)
    environment = {PARENT: parent} if parent else {}
    done = run(["dvc", "repro", "-s", stage], root, environment=environment, on_line=logger.info, on_progress=progress)
    status: StageStatus = "ran"
    if "didn't change, skipping" in done.text:
        status = "unchanged"
    elif "is cached - skipping run" in done.text:
        status = "restored"
    progress(100.0, status)
    return StageDone(stage, status, round(time.monotonic() - started, 1))


@task(name="begin", **RETRY)
def begin(root: Path, name: str) -> str | None:
    """The chain's run in MLflow; gives its id, None where nothing is tracked."""
    return begin_chain(root, name, {"difflora.flow": name})


def end(root: Path, run_id: str | None, *, failed: bool) -> None:
    """Ends the chain's run; a server that is away is told later."""
    if run_id is not None:
        end_chain(root, run_id, "FAILED" if failed else "FINISHED")


@task(name="push", **RETRY)
def push(root: Path) -> str:
    """Sends what is new to DVC's remote."""
    return run(["dvc", "push"], root, on_line=get_run_logger().info).text.splitlines()[-1]


@task(name="candidate", **RETRY)
def candidate(root: Path) -> str | None:
    """The registered version that the workspace's model is."""
    from difflora.stages.registry import Registry

    return Registry(root).candidate(root / "models" / "difflora")


@task(name="measure champion", **RETRY)
def measure_champion(root: Path) -> None:
    """Measures the champion on the workspace's held-out people, unless that was done already."""
    logger, progress = get_run_logger(), Progress("champion")
    run(["difflora", "registry", "measure"], root, on_line=logger.info, on_progress=progress)
    progress(100.0, "measured")


@task(name="promote", **RETRY)
def promote(root: Path, version: str | None, gate: Path, force: bool) -> dict[str, Any]:
    """Asks the gate, and makes the candidate the champion if it agrees.

    Returns:
        ``promoted``, ``candidate``, ``champion`` and ``lines``, the reasons.
    """
    from difflora.stages.gate import load_gate
    from difflora.stages.registry import Registry

    measured = root / "reports" if (root / "reports" / "champion.json").exists() else None
    done = Registry(root).promote(load_gate(root / gate), version=version, measured=measured, force=force)
    for line in done.verdict.lines:
        get_run_logger().info(line)
    return {
        "promoted": done.promoted,
        "candidate": done.candidate,
        "champion": done.champion,
        "lines": done.verdict.lines,
    }


def workspace(root: Path) -> Path:
    """The workspace's folder, looked over before any work.

    Raises:
        DiffLoRAError: if it holds no chain.
    """
    root = root.resolve()
    for name in ("dvc.yaml", "params.yaml", ".dvc"):
        if not (root / name).exists():
            raise DiffLoRAError(f"{root / name}: no such file; give the repository's folder as workspace")
    return root
