"""The start of the world's LoRAs: a tiny training, and what the stored one is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from difflora.corpus.settings import DreamBoothSettings
from difflora.corpus.start_learning import StartSettings
from difflora.errors import BadFile
from difflora.lora import LoraWeights
from difflora.stages.params import load_params
from difflora.world.start import BASE_NAME, FILE, WorldStartSettings, train_start, verify_start
from tests.tiny import sdxl

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "assets" / "embedded"
TINY = WorldStartSettings(
    dreambooth=DreamBoothSettings(rank=2, steps=2, batch_size=2, lr=1e-2, weight_decay=0, freeze_a=True),
    how=StartSettings(episodes=2, people_at_once=1),
    images=2,
)


def test_a_tiny_training_leaves_a_lora_that_changes_nothing_yet(tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    sdxl().save_pretrained(assets / "base")
    with pytest.raises(BadFile):
        train_start(TINY, assets, tmp_path / "work")  # no face pack
    (assets / "insightface").symlink_to(ASSETS / "insightface")
    report = train_start(TINY, assets, tmp_path / "work")
    assert (report["steps"], report["settings"]["images"]) == (4, 2)
    made = LoraWeights.load(assets / FILE)
    assert made.base is not None
    assert made.base.name == BASE_NAME
    of_a, of_b = made.layout.factor_places
    assert made.flat[of_b].abs().max() == 0
    assert made.flat[of_a].abs().max() > 0
    before = (assets / FILE).read_bytes()
    train_start(TINY, assets, tmp_path / "work")  # nothing left to do
    assert (assets / FILE).read_bytes() == before


def test_the_preset_starts_there_with_loras_of_its_form() -> None:
    preset = load_params(ROOT / "presets" / "embedded.yaml").corpus.dreambooth
    own = WorldStartSettings().dreambooth
    assert preset.start == Path("assets/embedded") / FILE
    same = ("targets", "rank", "alpha", "freeze_a", "batch_size", "lr", "face_weight", "mode_scale")
    assert {key: getattr(preset, key) for key in same} == {key: getattr(own, key) for key in same}


def test_loras_get_further_from_the_stored_one_than_from_a_random_a() -> None:
    gain, random, base = verify_start(ASSETS, 77, 2)
    assert gain.figure > random.figure + 0.05
    assert abs(base.figure) < 0.25
