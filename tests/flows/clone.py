"""This repository's commands, run in a clone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_dvc(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """DVC, with what it said."""
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=root, env=environment(), check=False, capture_output=True, text=True)


def environment() -> dict[str, str]:
    """The environment of a child that finds this repository's code, and this Python's commands."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
