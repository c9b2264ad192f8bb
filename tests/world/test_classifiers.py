"""Attribute classifiers: a tiny training, reloaded by diffusers, and the bars of the shipped ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from difflora.errors import BadFile
from difflora.world.bars import Bar
from difflora.world.classifiers import (
    ATTRIBUTES,
    FOLDER,
    AttributeClassifier,
    ClassifierSettings,
    build_classifiers,
    load_classifiers,
    train_classifiers,
    verify_classifiers,
)
from difflora.world.pool import fresh_pool
from difflora.world.scenes import Scenes

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"
TINY = ClassifierSettings(channels=(8, 8, 16), steps=3, batch_size=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classifiers")
    report = train_classifiers(TINY, root / "assets", root / "work", fresh_pool(12, 1, 3))
    assert report["steps"] == 3
    assert report["settings"]["batch_size"] == 8
    return root / "assets"


def test_scores_have_the_scenes_classes() -> None:
    model = build_classifiers(TINY)
    scores = model.forward(torch.rand(2, 3, 64, 64))
    assert {name: tuple(s.shape) for name, s in scores.items()} == {
        name: (2, len(Scenes.CATEGORICAL[name])) for name in ATTRIBUTES
    }


def test_initialisation_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = build_classifiers(TINY), build_classifiers(TINY)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_training_lowers_the_loss_on_a_few_pictures(tmp_path: Path) -> None:
    settings = ClassifierSettings(channels=(8, 16, 16), steps=60, batch_size=16, lr=5e-3)
    pool = fresh_pool(8, 1, 4)
    train_classifiers(settings, tmp_path / "assets", tmp_path / "work", pool)
    found = load_classifiers(tmp_path / "assets" / FOLDER).predict(pool.batch(torch.arange(8)))
    right = [float((found[name] == pool.scenes.index(name)).float().mean()) for name in ATTRIBUTES]
    assert sum(right) / len(right) > 0.6  # chance is 0.15


def test_diffusers_reloads_the_folder(trained: Path) -> None:
    model = load_classifiers(trained / FOLDER)
    again = AttributeClassifier.from_pretrained(trained / FOLDER)
    images = torch.rand(5, 3, 64, 64)
    found = model.predict(images, batch_size=2)
    assert {name: (f.shape, f.dtype) for name, f in found.items()} == dict.fromkeys(
        ATTRIBUTES, (torch.Size([5]), torch.int64)
    )
    assert all(torch.equal(found[name], s.argmax(1)) for name, s in again.eval().forward(images).items())
    assert model.predict(images[:0])["background"].shape == (0,)


def test_wrong_shapes_are_refused(trained: Path) -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 32, 32\), not \(N, 3, 64, 64\)"):
        load_classifiers(trained / FOLDER).predict(torch.rand(1, 3, 32, 32))


def test_bad_folders_are_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such folder"):
        load_classifiers(tmp_path / "missing")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    whole = (trained / FOLDER / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match="not a whole safetensors file"):
        load_classifiers(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(whole)
    with pytest.raises(BadFile, match="UNet2DConditionModel"):
        load_classifiers(tmp_path)


def test_verify_gives_a_row_an_attribute(trained: Path) -> None:
    rows = verify_classifiers(trained, seed=6, count=10)
    assert [row.name.split(" classifier")[0].replace(" ", "_") for row in rows] == list(ATTRIBUTES)
    assert all(isinstance(row, Bar) and row.goal == 0.97 and 0 <= row.figure <= 1 for row in rows)


@pytest.mark.skipif(not (ASSETS / FOLDER).exists(), reason="the classifiers are not trained yet")
def test_shipped_classifiers_read_renders() -> None:
    for row in verify_classifiers(ASSETS, seed=4321, count=200):
        assert row.figure >= 0.94, row  # the goal less the spread of 200 pictures
