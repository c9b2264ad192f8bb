"""Where MLflow's runs and models are kept, and whether it can be reached."""

from __future__ import annotations

import importlib.util
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from difflora.errors import BadParameter, Busy, DiffLoRAError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "difflora"
"""All runs are in one experiment."""

SWITCH = "DIFFLORA_TRACKING"
"""An environment variable: ``off`` keeps no runs."""

_URI = "MLFLOW_TRACKING_URI"
_FOLDER = "mlruns"
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
_SECONDS = 5


def tracking_uri(root: Path) -> str | None:
    """Where runs go: ``MLFLOW_TRACKING_URI``, else a sqlite file in the workspace; None where nothing is tracked.

    Args:
        root: of the workspace.

    Raises:
        BadParameter: if the switch says neither on nor off.
    """
    switch = os.environ.get(SWITCH, "on").lower()
    if switch not in ("on", "off"):
        raise BadParameter(f"{SWITCH} is {switch!r}: give on or off")
    # Where it is not installed the repository's own folder of that name is found, which has no origin.
    spec = importlib.util.find_spec("mlflow")
    if switch == "off" or spec is None or spec.origin is None:
        return None
    return os.environ.get(_URI) or f"sqlite:///{(root / _FOLDER / 'mlflow.db').resolve()}"


def open_client(root: Path, uri: str) -> MlflowClient:
    """A client of a store, which is made where it is a file that is not there yet.

    Args:
        root: of the workspace.
        uri: of ``tracking_uri``.

    Raises:
        Busy: if a server does not answer.
        DiffLoRAError: if the store cannot be opened.
    """
    for name, value in _PATIENCE.items():  # its own defaults wait for minutes before they say that a server is away
        os.environ.setdefault(name, value)
    check_server(uri)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    import mlflow

    try:
        mlflow.set_tracking_uri(uri)  # some of MLflow's own parts read the global one
        mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        raise DiffLoRAError(
            f"{without_password(uri)}: cannot be opened as MLflow's store ({_first_line(error)}); give another in "
            f"{_URI}, or set {SWITCH}=off"
        ) from error
    return client


def experiment_id(client: MlflowClient, root: Path, uri: str) -> str:
    """The id of the experiment, which is made where it is missing."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        from mlflow.exceptions import MlflowException

        # A server knows where its artifacts go; beside a file they would lie in whatever folder is the working one.
        place = None if uri.startswith("http") else (root / _FOLDER / "artifacts").resolve().as_uri()
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=place))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    return str(found.experiment_id)


def check_server(uri: str) -> None:
    """Asks a server whether it is there; a file always is.

    Raises:
        Busy: if it does not answer.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:  # somebody answers; a proxy may keep its health to itself
            return
        reason = str(error)
    except (OSError, ValueError) as error:
        reason = _first_line(error)
    raise Busy(
        f"{without_password(uri)}: the tracking server is away ({reason}); start it (`make up`) and run again, or set "
        f"{SWITCH}=off to go on without"
    )


def without_password(uri: str) -> str:
    """A URI as it may be shown."""
    parts = urlsplit(uri)
    return uri if parts.password is None else uri.replace(f":{parts.password}@", ":***@")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
