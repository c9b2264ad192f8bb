"""The production stack's file, as far as it can be looked at without a container engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STACK: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = ("prefect-server", "mlflow-server", "worker")


def test_who_is_needed_is_healthy_first() -> None:
    for name, service in STACK["services"].items():
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert STACK["services"][needed]["healthcheck"]["test"]


def test_no_port_is_open_beyond_this_machine_and_no_password_is_in_the_file() -> None:
    for service in STACK["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    text = (ROOT / "compose.yaml").read_text()
    assert text.count("${POSTGRES_PASSWORD:?") == 3
    assert "POSTGRES_PASSWORD=\n" in (ROOT / "deploy" / "env.example").read_text()


@pytest.mark.parametrize("name", OURS)
def test_files_of_the_image_are_there(name: str) -> None:
    build = STACK["services"][name]["build"]
    lines = (ROOT / build["dockerfile"]).read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied
    for path in copied:
        assert (ROOT / build["context"] / path).exists(), path


def test_every_database_that_is_used_is_made() -> None:
    text, made = (ROOT / "compose.yaml").read_text(), (ROOT / "deploy" / "databases.sql").read_text()
    for name in ("prefect", "mlflow"):
        assert f"@postgres:5432/{name}" in text
        assert f"CREATE DATABASE {name}" in made
