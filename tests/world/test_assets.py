"""The stored models themselves: whole, small, and measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from difflora.world.card import card_text
from difflora.world.manifest import MANIFEST, Manifest, check_manifest
from difflora.world.registry import MODELS

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "embedded"

pytestmark = pytest.mark.skipif(not (ASSETS / MANIFEST).is_file(), reason="the world's models are not stored here")


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return check_manifest(ASSETS)


@pytest.mark.skipif(not (ASSETS / "base" / "unet").is_dir(), reason="not every model is trained yet")
def test_every_model_is_there(manifest: Manifest) -> None:
    assert set(manifest.models) == {model.name for model in MODELS}


def test_all_together_stay_under_40_megabytes(manifest: Manifest) -> None:
    assert manifest.megabytes < 40


def test_nothing_is_pickled(manifest: Manifest) -> None:
    endings = {Path(file.path).suffix for model in manifest.models.values() for file in model.files}
    assert endings <= {".safetensors", ".json", ".onnx", ".txt", ".jinja", ".md"}


def test_every_model_was_measured_and_the_card_is_up_to_date(manifest: Manifest) -> None:
    assert [name for name, record in manifest.models.items() if not record.bars] == []
    assert (ASSETS / "README.md").read_text() == card_text(manifest)
