"""What a run came from: the commit of the code and the hashes that DVC keeps of a stage's inputs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml


def commit_of(root: Path) -> dict[str, str]:
    """The git commit of a folder, and whether files differ from it; empty where there is no repository."""
    found = _git(root, "rev-parse", "HEAD")
    if found is None:
        return {}
    dirty = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"mlflow.source.git.commit": found, "git.dirty": str(bool(dirty)).lower()}


def input_hashes(root: Path, stage: str) -> dict[str, str]:
    """Path -> the md5 that DVC keeps of it, for those inputs of a stage that other stages make.

    Args:
        root: of the workspace, with ``dvc.yaml`` and ``dvc.lock``; without them nothing is known.
        stage: its name.
    """
    made = {
        out["path"]: str(out["md5"])
        for known in _mapping(root / "dvc.lock").get("stages", {}).values()
        for out in known.get("outs", [])
        if "md5" in out
    }
    needs = _mapping(root / "dvc.yaml").get("stages", {}).get(stage, {}).get("deps", [])
    return {path: made[path] for path in needs if path in made}


def _mapping(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
