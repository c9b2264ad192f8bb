"""A stage's run in MLflow: parameters, curves, figures, where it came from.

What is logged goes through an outbox: when the server goes away in the middle of a stage, the stage works on, and what
could not be sent waits in ``data/runs/NAME-RUN.json`` for the next stage of the workspace to send. A stage that was
killed goes on in its own run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from difflora.errors import DiffLoRAError
from difflora.files import write_json
from difflora.folders import read_json
from difflora.stages.lineage import commit_of, input_hashes
from difflora.stages.outbox import Outbox
from difflora.stages.store import experiment_id, open_client, tracking_uri, without_password

logger = logging.getLogger(__name__)

PARENT = "DIFFLORA_PARENT_RUN"
"""An environment variable: the run of the chain that stages are nested under."""

OnLog = Any  # difflora.training.OnLog, which importing would load torch for


class Tracker(Protocol):
    """Where a stage tells what it did; telling never stops the stage."""

    @property
    def run_id(self) -> str | None:
        """Of the stage's run; None where nothing is tracked."""

    def curve(self, prefix: str) -> OnLog:
        """A training's ``on_log``, under ``prefix/``."""

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Logs numbers; inner mappings become dotted names, and what is no number is left out."""

    def artifact(self, *paths: Path, folder: str = "") -> None:
        """Logs files and folders."""

    def flush(self) -> bool:
        """Sends what waits; gives whether all of it was sent."""


class _Silent:
    """Tracks nothing."""

    run_id = None

    def curve(self, prefix: str) -> OnLog:
        return None

    def metrics(self, values: Mapping[str, Any]) -> None:
        pass

    def artifact(self, *paths: Path, folder: str = "") -> None:
        pass

    def flush(self) -> bool:
        return True


SILENT: Tracker = _Silent()
"""Of a call that nobody follows."""


class _Run:
    """Tracks into a run."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.run_id: str | None = outbox.run_id

    def curve(self, prefix: str) -> OnLog:
        def on_log(step: int, means: Mapping[str, float]) -> None:
            now = _now()
            self._outbox.add(*(["metric", f"{prefix}/{key}", float(v), now, step] for key, v in means.items()))

        return on_log

    def metrics(self, values: Mapping[str, Any]) -> None:
        now = _now()
        self._outbox.add(*(["metric", key, value, now, 0] for key, value in flat(values).items() if _is_number(value)))

    def artifact(self, *paths: Path, folder: str = "") -> None:
        self._outbox.add(*(["artifact", str(path.resolve()), folder] for path in paths if path.exists()))

    def flush(self) -> bool:
        return self._outbox.send(at_once=True)


@contextmanager
def track(root: Path, stage: str, section: Mapping[str, Any]) -> Iterator[Tracker]:
    """The run of a stage, which is begun before the stage and ended after it.

    Args:
        root: of the workspace.
        stage: its name.
        section: its parameters.

    Yields:
        Where the stage tells what it did.

    Raises:
        Busy: if a server is configured and does not answer; nothing was begun then.
        DiffLoRAError: if the store cannot be opened.
    """
    uri = tracking_uri(root)
    if uri is None:
        yield SILENT
        write_json(run_file(root, stage), {"run_id": None, "experiment_id": None})
        return
    client = open_client(root, uri)
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    send_left(root)
    values = flat(section)
    digest = hashlib.sha256(json.dumps([uri, os.environ.get(PARENT), values], default=str).encode()).hexdigest()
    place = _waiting(root, stage)
    experiment = experiment_id(client, root, uri)
    run_id = _unfinished(client, place, digest)
    if run_id is None:
        tags = {"mlflow.runName": stage, "difflora.stage": stage, **commit_of(root)}
        if os.environ.get(PARENT):
            tags["mlflow.parentRunId"] = os.environ[PARENT]
        run_id = client.create_run(experiment, tags=tags).info.run_id
        write_json(place, {"uri": uri, "run_id": run_id, "digest": digest, "done": False, "events": []})
    outbox = Outbox(client, run_id)
    outbox.add(*(["param", f"{stage}.{key}", str(value)[:6000]] for key, value in values.items()))
    outbox.add(*(["tag", f"dvc.{path}", md5] for path, md5 in input_hashes(root, stage).items()))
    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
    monitor.start()
    status = "FAILED"
    try:
        yield _Run(outbox)
        status = "FINISHED"
    except DiffLoRAError as error:
        outbox.add(["tag", "difflora.error", str(error)[:4000]])
        raise
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        monitor.finish()
        outbox.add(["end", status])
        if not outbox.send(at_once=True):
            kept = _waiting(root, f"{stage}-{run_id}")
            write_json(kept, {"uri": uri, "run_id": run_id, "done": True, "events": outbox.events})
            logger.warning(
                "%s: the tracking server is away; what %s did is kept in %s and sent by the next stage",
                without_password(uri),
                stage,
                kept,
            )
        place.unlink(missing_ok=True)
    write_json(run_file(root, stage), {"run_id": run_id, "experiment_id": experiment})


def run_file(root: Path, stage: str) -> Path:
    """A stage's small output: the id of the run that made the others."""
    return root / "reports" / "runs" / f"{stage}.json"


def run_id_of(root: Path, stage: str) -> str | None:
    """The id of the run that made a stage's outputs; None where it was not tracked."""
    path = run_file(root, stage)
    return read_json(path).get("run_id") if path.exists() else None


def begin_chain(root: Path, name: str, tags: Mapping[str, str] | None = None) -> str | None:
    """Begins a parent run for the stages of a chain, which find it in the environment variable ``PARENT``.

    Args:
        root: of the workspace.
        name: of the run.
        tags: of the run.

    Returns:
        Its id; None where nothing is tracked.

    Raises:
        Busy: if a server is configured and does not answer.
    """
    uri = tracking_uri(root)
    if uri is None:
        return None
    client = open_client(root, uri)
    all_tags = {"mlflow.runName": name, **commit_of(root), **(tags or {})}
    return str(client.create_run(experiment_id(client, root, uri), tags=all_tags).info.run_id)


def end_chain(root: Path, run_id: str, status: str) -> None:
    """Ends a parent run; where the server is away the next stage does.

    Args:
        root: of the workspace.
        run_id: of ``begin_chain``.
        status: FINISHED, FAILED or KILLED.
    """
    uri = str(tracking_uri(root))
    place = _waiting(root, f"chain-{run_id}")
    write_json(place, {"uri": uri, "run_id": run_id, "done": True, "events": [["end", status]]})
    send_left(root)


def send_left(root: Path) -> int:
    """Sends what earlier stages could not; gives how many runs are whole now."""
    sent = 0
    for place in sorted((root / "data" / "runs").glob("*.json")):
        kept = read_json(place)
        if not kept.get("done"):
            continue
        try:
            client = open_client(root, str(kept["uri"]))
        except DiffLoRAError as error:
            logger.warning("%s: still cannot be sent: %s", place, error)
            continue
        outbox = Outbox(client, str(kept["run_id"]))
        outbox.add(*kept["events"])
        if outbox.send(at_once=True):
            place.unlink()
            sent += 1
    return sent


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def _waiting(root: Path, stage: str) -> Path:
    return root / "data" / "runs" / f"{stage}.json"


def _unfinished(client: Any, place: Path, digest: str) -> str | None:
    """The run of a stage that was killed, to go on in; one of other parameters is ended."""
    if not place.exists():
        return None
    kept = read_json(place)
    try:
        status = client.get_run(kept["run_id"]).info.status
        if status != "RUNNING":
            return None
        if kept.get("digest") == digest:
            return str(kept["run_id"])
        client.set_terminated(kept["run_id"], "KILLED")
    except Exception as error:  # the run may be gone, or of another store: a new one is as good
        logger.info("%s: not going on in its run (%s)", place, error)
    return None


def _now() -> int:
    return int(time.time() * 1000)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
