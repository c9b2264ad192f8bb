"""The world's CLIP: loss, retrieval, a tiny training, reload by transformers, and the shipped model's bar."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoProcessor, CLIPModel

from difflora.errors import BadFile
from difflora.world.clip import (
    FOLDER,
    ClipSettings,
    build_clip,
    contrastive_loss,
    load_clip,
    retrieval,
    train_clip,
    verify_clip,
)
from difflora.world.clip_captions import VARIANTS, cached_caption_ids
from difflora.world.pool import fresh_pool
from difflora.world.tokenizer import build_tokenizer

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"
TINY = ClipSettings(hidden_size=32, vision_layers=1, text_layers=1, projection_dim=16, steps=2, batch_size=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clip")
    report = train_clip(TINY, root / "assets", root / "work", fresh_pool(12, 1, 3))
    assert report["steps"] == 2
    return root / "assets"


def test_loss_is_that_of_guessing_for_equal_embeddings_and_small_for_matching_ones() -> None:
    same = torch.ones(8, 4)
    assert float(contrastive_loss(same, same, torch.tensor(0.0))) == pytest.approx(math.log(8))
    own = torch.eye(8)
    assert float(contrastive_loss(own * 3, own * 0.1, torch.tensor(math.log(100)))) < 1e-5
    assert float(contrastive_loss(own, own, torch.tensor(50.0))) < 1e-5  # the scale is held at 100


def test_retrieval_averages_both_directions() -> None:
    images = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), dim=-1)
    assert retrieval(images, images, group=2) == 1.0
    assert retrieval(images[:4], images[:4].roll(1, 0), group=2) == 0.0
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert retrieval(images[:2], texts, group=2) == 1.0
    assert retrieval(images[:2], torch.tensor([[0.8, 0.6], [1.0, 0.0]]), group=2) == 0.25
    with pytest.raises(ValueError, match="less than a group"):
        retrieval(images, images, group=64)


def test_caption_ids_are_drawn_once(tmp_path: Path) -> None:
    tokenizer, pool = build_tokenizer(), fresh_pool(5, 1, 3)
    ids = cached_caption_ids(tokenizer, pool, 7, tmp_path)
    assert ids.shape == (5, len(VARIANTS), tokenizer.model_max_length)
    gender = pool.people.gender
    assert all(gender[i] in str(tokenizer.decode(ids[i, 1].tolist())).split() for i in range(5))
    assert torch.equal(cached_caption_ids(tokenizer, pool, 7, tmp_path), ids)
    assert len(list(tmp_path.iterdir())) == 1
    cached_caption_ids(tokenizer, pool, 8, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_building_leaves_the_global_generator_alone() -> None:
    before, tokenizer = torch.get_rng_state(), build_tokenizer()
    first, second = build_clip(TINY, tokenizer), build_clip(TINY, tokenizer)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_training_is_resumed_to_the_same_weights(trained: Path, tmp_path: Path) -> None:
    pool = fresh_pool(12, 1, 3)
    train_clip(TINY, tmp_path / "assets", tmp_path / "work", pool)
    train_clip(TINY, tmp_path / "assets", tmp_path / "work", pool)  # nothing left to do
    again = (tmp_path / "assets" / FOLDER / "model.safetensors").read_bytes()
    assert again == (trained / FOLDER / "model.safetensors").read_bytes()


def test_transformers_reloads_the_folder(trained: Path, recwarn: pytest.WarningsRecorder) -> None:
    loaded: Any = CLIPModel.from_pretrained(trained / FOLDER, output_loading_info=True)
    model, loading = loaded
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(trained / FOLDER)
    picture = fresh_pool(1, 1, 5).images[0]
    inputs = processor(
        text=["a man", "a woman"],
        images=[picture.permute(1, 2, 0).numpy()],
        return_tensors="pt",
        padding="max_length",
        truncation=True,
    )
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    mean = torch.tensor(processor.image_processor.image_mean)
    deviation = torch.tensor(processor.image_processor.image_std)
    expected = (picture.float() / 255 - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    assert torch.allclose(inputs["pixel_values"][0], expected, atol=1e-4)  # 64 pixels pass unresized
    model.train(False)
    with torch.no_grad():
        assert model(**inputs).logits_per_image.shape == (1, 2)
    assert not [str(w.message) for w in recwarn if "transformers" in str(w.filename)]


def test_bad_folders_are_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such folder"):
        load_clip(tmp_path / "missing")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "model.safetensors").write_bytes((trained / FOLDER / "model.safetensors").read_bytes())
    with pytest.raises(BadFile, match="'vit', not 'clip'"):
        load_clip(tmp_path)


def test_verify_gives_the_bar_and_a_figure(trained: Path) -> None:
    bar, figure = verify_clip(trained, seed=8, count=64)
    assert bar.goal == 0.8
    assert math.isnan(figure.goal)
    assert 0 <= bar.figure <= 1


@pytest.mark.skipif(not (ASSETS / FOLDER).exists(), reason="CLIP is not trained yet")
def test_shipped_clip_finds_captions() -> None:
    bar = verify_clip(ASSETS, seed=4321, count=256)[0]
    assert bar.figure >= 0.74, bar  # the goal less the spread of 256 pictures
