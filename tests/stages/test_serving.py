"""The README's serving lines, literally: ``mlflow models serve`` as a process, and requests to it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from difflora.corpus.people import PeopleFolder
from difflora.evaluation.subjects import as_jpeg
from difflora.lora import LoraWeights
from difflora.stages.registry import CANDIDATES
from difflora.stages.run import STAGES, run_stage
from tests.flows.clone import environment
from tests.served import free_port

pytest.importorskip("mlflow")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_served_model_answers_and_refuses(
    chain_params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFLORA_TRACKING", "on")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(chain_params))
    for name in STAGES:
        run_stage(name, tmp_path / "params.yaml")
    people = PeopleFolder(tmp_path / "data" / "people")
    picture = base64.b64encode(as_jpeg(people.person(people.split("test")[0]).references[0])).decode()
    with _served(tmp_path, f"models:/{CANDIDATES}@challenger") as address:
        status, answer = _post(address, {"inputs": {"image": [picture]}, "params": {"seed": 7, "scale": 0.8}})
        assert status == 200, answer
        (tmp_path / "me.safetensors").write_bytes(base64.b64decode(answer["predictions"][0]["lora"]))
        assert LoraWeights.load(tmp_path / "me.safetensors").scale == 0.8
        status, answer = _post(address, {"inputs": {"image": ["no base64!"]}})
        assert status == 400
        assert "is no base64" in answer["message"]


@contextmanager
def _served(root: Path, model: str) -> Iterator[str]:
    port = str(free_port())
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", port]
    values = environment() | {"MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlruns' / 'mlflow.db'}"}
    log = root / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=root, env=values, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{address}/ping", process, log)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the server did not answer: {log.read_text()[-2000:]}")


def _post(address: str, body: dict[str, Any]) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
