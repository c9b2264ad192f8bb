"""Prefect's server, a worker and MLflow's server on a developer's machine: ``make up``, ``make down``.

    python -m flows.services up|down|status

Their files are in ``data/services``, MLflow's in ``mlruns``; they listen on this machine alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from difflora.errors import BadParameter, DiffLoRAError
from difflora.files import write_json

ROOT = Path(__file__).parents[1]
POOL = "difflora"
_PATIENCE = 180.0


@dataclass(frozen=True)
class Ports:
    """Where the servers listen."""

    prefect: int = 4200
    mlflow: int = 5000

    @classmethod
    def from_environment(cls) -> Ports:
        """Those of ``PREFECT_PORT`` and ``MLFLOW_PORT``.

        Raises:
            BadParameter: if one is no number.
        """
        found = {}
        for name, default in (("PREFECT_PORT", cls.prefect), ("MLFLOW_PORT", cls.mlflow)):
            value = os.environ.get(name, str(default))
            if not value.isdigit():
                raise BadParameter(f"{name} is {value!r}: give a port's number")
            found[name] = int(value)
        return cls(found["PREFECT_PORT"], found["MLFLOW_PORT"])


class Services:
    """The three processes of a workspace.

    Args:
        root: of the workspace.
        ports: where to listen.
    """

    def __init__(self, root: Path, ports: Ports) -> None:
        self.root, self.ports = root.resolve(), ports
        self.folder = self.root / "data" / "services"
        self.prefect_api = f"http://127.0.0.1:{ports.prefect}/api"
        self.mlflow_uri = f"http://127.0.0.1:{ports.mlflow}"

    @property
    def environment(self) -> dict[str, str]:
        """What commands need to find the servers."""
        return {"PREFECT_API_URL": self.prefect_api, "MLFLOW_TRACKING_URI": self.mlflow_uri}

    def up(self) -> None:
        """Starts what does not run yet, and deploys all flows.

        Raises:
            DiffLoRAError: if a server does not come up; its log is named.
        """
        store = self.root / "mlruns"
        store.mkdir(exist_ok=True)
        host = ["--host", "127.0.0.1", "--port"]
        self._start("prefect-server", ["prefect", "server", "start", *host, str(self.ports.prefect)])
        mlflow = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{store / 'mlflow.db'}", "--workers", "1"]
        mlflow += ["--artifacts-destination", str(store / "artifacts"), *host, str(self.ports.mlflow)]
        self._start("mlflow-server", mlflow)
        self._wait("prefect-server", f"{self.prefect_api}/health")
        self._wait("mlflow-server", f"{self.mlflow_uri}/health")
        self._run("prefect", "work-pool", "create", POOL, "--type", "process", "--overwrite")
        self._run("prefect", "work-pool", "set-concurrency-limit", POOL, "1")
        self._run("prefect", "--no-prompt", "deploy", "--all")
        self._run(sys.executable, "-m", "flows.heartbeats")
        self._start("worker", ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--limit", "1"])

    def down(self) -> list[str]:
        """Stops what was started here; gives the names. Runs that were at work go on where they were, when asked to."""
        stopped = []
        for place in sorted(self.folder.glob("*.pid"), reverse=True):  # the worker first
            pid = self._pid(place)
            if pid is not None:
                _stop(pid)
                stopped.append(place.stem)
            place.unlink(missing_ok=True)
        return stopped

    def running(self) -> dict[str, int]:
        """Name -> process of what runs."""
        found = {place.stem: self._pid(place) for place in sorted(self.folder.glob("*.pid"))}
        return {name: pid for name, pid in found.items() if pid is not None}

    def _pid(self, place: Path) -> int | None:
        """The process of a pid file, if it is still the one that was started."""
        known = json.loads(place.read_text())
        return int(known["pid"]) if _born(int(known["pid"])) == known["born"] else None

    def _start(self, name: str, command: Sequence[str]) -> None:
        if name in self.running():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=self._values(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        write_json(self.folder / f"{name}.pid", {"pid": process.pid, "born": _born(process.pid)})

    def _wait(self, name: str, url: str) -> None:
        until, log = time.monotonic() + _PATIENCE, self.folder / f"{name}.log"
        while time.monotonic() < until:
            if name not in self.running():
                raise DiffLoRAError(
                    f"{name} ended; read {log} (a port that is taken? PREFECT_PORT and MLFLOW_PORT set others)"
                )
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except OSError:
                time.sleep(1)
        raise DiffLoRAError(f"{name} did not answer in {_PATIENCE:g} s; read {log}, then `make down` and `make up`")

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self._values(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-3:]
            raise DiffLoRAError(f"`{' '.join(command)}` ended with {done.returncode}: {' '.join(said)}")

    def _values(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return {
            **os.environ,
            **self.environment,
            "PATH": path,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }


def _born(pid: int) -> float | None:
    """When a process started, so that another one of the same number is not taken for it; None where it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _stop(pid: int, seconds: float = 20.0) -> None:
    """Asks a process and those it started to stop, and ends them where they do not."""
    try:
        os.killpg(pid, signal.SIGTERM)
        until = time.monotonic() + seconds
        while time.monotonic() < until and _born(pid) is not None:
            time.sleep(0.2)
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(arguments: Sequence[str]) -> int:
    """Does what is asked; gives the exit status."""
    try:
        services = Services(ROOT, Ports.from_environment())
        if list(arguments) == ["up"]:
            services.up()
            lines = [f"export {name}={value}" for name, value in services.environment.items()]
            sys.stdout.write("\n".join(["running; in your shell:", *lines, "prefect deployment run difflora/full", ""]))
        elif list(arguments) == ["down"]:
            sys.stdout.write(f"stopped: {', '.join(services.down()) or 'nothing ran'}\n")
        elif list(arguments) == ["status"]:
            for name, pid in services.running().items():
                sys.stdout.write(f"{name}: process {pid}\n")
        else:
            raise BadParameter(f"{' '.join(arguments) or 'nothing'}: give up, down or status")
    except DiffLoRAError as error:
        sys.stderr.write(f"difflora: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
