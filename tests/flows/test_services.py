"""``make up`` in a clone: servers, worker, deployments, a schedule that fires, ``make down``."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import yaml

from flows.services import Ports, Services
from tests.flows.clone import environment
from tests.served import free_port

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture
def clone(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with the flows beside it, whose retraining is scheduled every minute."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(ROOT / "flows", repository / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    values = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    retrain = next(one for one in values["deployments"] if one["name"] == "retrain")
    retrain["schedules"] = [{"cron": "* * * * *", "timezone": "UTC", "active": True}]
    (repository / "prefect.yaml").write_text(yaml.safe_dump(values))
    return repository


@pytest.mark.timeout(600)
def test_a_schedule_fires_and_the_retraining_says_that_nobody_came_in(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services(clone, Ports(free_port(), free_port()))
    try:
        services.up()
        assert set(services.running()) == {"prefect-server", "mlflow-server", "worker"}
        run, text = _first_scheduled_run(services)
        assert run.auto_scheduled
        assert run.state.is_completed(), run.state
        assert "No new people" in text
        before = services.running()
        services.up()  # what runs is left alone
        assert services.running() == before
    finally:
        stopped = services.down()
    assert set(stopped) == {"prefect-server", "mlflow-server", "worker"}
    assert not services.running()


def _first_scheduled_run(services: Services) -> tuple[object, str]:
    """The first run of ``difflora/retrain`` that the schedule started, when it has ended, and its artifact."""
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import FlowRunSort

    until = time.monotonic() + 240
    with SyncPrefectClient(services.prefect_api) as client:
        deployment = client.read_deployment_by_name("difflora/retrain")
        while time.monotonic() < until:
            runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_ASC)
            ended = [run for run in runs if run.deployment_id == deployment.id and run.state.is_final()]
            if ended:
                found = client.read_artifacts(
                    artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["difflora-retrain"]))
                )
                return ended[0], "\n".join(str(artifact.data) for artifact in found)
            time.sleep(2)
    log = (services.folder / "worker.log").read_text()
    raise AssertionError(f"no scheduled run ended; the worker said: {log[-2000:]}")
