"""A small study of three people, two prompts and three methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from difflora.study.build import build_study
from tests.kept import make_gallery


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kept pictures; nobody changes them."""
    return make_gallery(tmp_path_factory.mktemp("kept") / "pictures", chosen=["success"])


@pytest.fixture
def study(pictures: Path, tmp_path: Path) -> Path:
    """A study's folder with 18 pages."""
    build_study(pictures, tmp_path / "study", seed=7)
    return tmp_path / "study"
