"""What a wheel would hold: packages, presets, and what lies in the packages beside code."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
PACKAGES = {"difflora": ROOT / "difflora", "difflora_kernels": ROOT / "kernels" / "difflora_kernels"}


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def _wanted() -> set[str]:
    """Names in the wheel of everything that is not built."""
    names = {f"{name}/{path.relative_to(folder)}" for name, folder in PACKAGES.items() for path in _files(folder)}
    return names | {f"difflora/presets/{path.relative_to(ROOT / 'presets')}" for path in _files(ROOT / "presets")}


def test_there_is_something_beside_code_and_git_ignores_none_of_it() -> None:
    """The builder leaves out what git ignores."""
    wanted = _wanted()
    for name in (
        "difflora/identities/prompts/women.txt",
        "difflora/evaluation/templates/evaluation.html.jinja",
        "difflora/study/templates/page.html.jinja",
        "difflora/study/static/study.css",
        "difflora/presets/sdxl.yaml",
        "difflora/presets/prompts/embedded.txt",
        "difflora/py.typed",
        "difflora_kernels/py.typed",
    ):
        assert name in wanted
    paths = [
        str(path.relative_to(ROOT)) for folder in (*PACKAGES.values(), ROOT / "presets") for path in _files(folder)
    ]
    command = ["git", "-C", str(ROOT), "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(command, input="\n".join(paths), capture_output=True, text=True, check=False)
    if done.returncode == 128:
        pytest.skip("no git repository here")
    assert done.stdout == ""


def test_a_wheel_holds_all_of_it(tmp_path: Path) -> None:
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "difflora = difflora.cli:main" in wheel.read(entry_points).decode()
    assert _wanted() <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    assert not any("__pycache__" in name for name in names)
