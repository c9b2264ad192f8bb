"""Flows against a real Prefect server, a real DVC repository and a real MLflow store, around the tiny chain."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("prefect")
pytest.importorskip("dvc")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A server of its own, with a database of its own."""
    from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}),
        prefect_test_harness(server_startup_timeout=120),
    ):
        yield


@pytest.fixture
def repository(chain_params: dict[str, Any], chain_base: Path, tmp_path: Path) -> Path:
    """A clone with the tiny chain's parameters, as git and DVC have it after set-up."""
    root = tmp_path / "clone"
    make_repository(root, chain_params, chain_base)
    return root


def make_repository(root: Path, values: dict[str, Any], base: Path) -> None:
    """Lays the chain's files where they are in the repository, with paths as they are there."""
    assets = root / "assets" / "embedded"
    shutil.copytree(ROOT / "assets" / "embedded", assets, ignore=shutil.ignore_patterns("base"))
    shutil.copytree(base, assets / "base")
    own = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["models"], values["evaluate"]["metrics"] = own["models"], own["evaluate"]["metrics"]
    values["models"]["base"]["name"] = "tiny"
    values["evaluate"]["independent"] = "assets/embedded/evaluation/recogniser/recogniser.onnx"
    values["evaluate"]["agreement_options"] = {"assets": "assets/embedded"}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    for name in ("dvc.yaml", ".gitignore", ".dvcignore", "data/incoming/README.md", "mlflow/gate.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    git(root, "init", "-q", "-b", "main")
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copyfile(ROOT / ".dvc" / name, root / ".dvc" / name)
    git(root, "add", "-A")
    git(root, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-q", "-m", "A clone")


def git(root: Path, *words: str) -> str:
    """Runs git in a folder."""
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout
