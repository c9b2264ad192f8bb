"""The self-supervised ViT: its loss and measures, a tiny training, reload by transformers, the shipped one's bar."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor, ViTModel

from difflora.world.dino import (
    FOLDER,
    Average,
    DinoSettings,
    build_dino,
    cut_heads,
    dino_loss,
    neighbour_accuracy,
    pair_auc,
    train_dino,
    verify_dino,
)
from difflora.world.pool import fresh_pool

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"
TINY = DinoSettings(hidden_size=32, layers=1, prototypes=16, small_crops=1, steps=2, batch_size=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dino")
    report = train_dino(TINY, root / "assets", root / "work", fresh_pool(8, 1, 3))
    assert report["steps"] == 2
    return root / "assets"


def test_scores_are_cosines_for_crops_of_any_size() -> None:
    net = build_dino(TINY)
    for side in (24, 48, 64):
        scores = net(torch.rand(2, 3, side, side))
        assert scores.shape == (2, 16)
        assert float(scores.detach().abs().max()) <= 1.0001


def test_crops_must_hold_whole_patches() -> None:
    with pytest.raises(ValueError, match="20 pixels holds no whole number of 8-pixel patches"):
        build_dino(TINY.model_copy(update={"small_side": 20}))


def test_a_head_fills_two_thirds_of_its_cut() -> None:
    images = torch.zeros(1, 3, 64, 64)
    images[:, :, 10:26, 30:46] = 1  # a "face" of 16 pixels
    cut = cut_heads(images, torch.tensor([[30.0, 10.0, 46.0, 26.0]]))
    assert cut.shape == images.shape
    filled = (cut[0, 0] > 0.5).float()
    assert filled.mean().item() == pytest.approx((2 / 3) ** 2, abs=0.03)
    assert filled[32, 32] == 1
    assert filled[:8].sum() == 0


def test_loss_compares_each_large_crop_with_the_other() -> None:
    targets = torch.eye(4)[:2].unsqueeze(1)  # the teacher is sure: class 0 on the first crop, 1 on the second
    crossed = targets.flip(0) * 10
    assert float(dino_loss(targets, crossed, None)) < 1e-3
    assert float(dino_loss(targets, targets * 10, None)) > 10
    even = torch.zeros(3, 1, 4)
    assert float(dino_loss(targets, torch.zeros(2, 1, 4), even)) == pytest.approx(math.log(4))


def test_the_average_follows_and_gives_probabilities() -> None:
    net = build_dino(TINY)
    average = Average(net)
    before = average.weights()["project.0.weight"].clone()
    with torch.no_grad():
        net.get_parameter("project.0.weight").add_(1.0)
    average.follow(net, 0.9)
    assert torch.allclose(average.weights()["project.0.weight"], before + 0.1, atol=1e-6)
    targets = average.targets(net, torch.rand(3, 3, 24, 24))
    assert torch.allclose(targets.sum(dim=-1), torch.ones(3), atol=1e-5)
    assert float(average.centre.abs().sum()) > 0
    assert not list(average.parameters())


def test_pair_auc_counts_ties_as_half() -> None:
    identity = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert pair_auc(apart, identity) == (1.0, 1.0)
    assert pair_auc(torch.ones(4, 1), identity) == (0.5, 0.0)
    assert pair_auc(apart, torch.tensor([0, 1, 0, 1]))[0] < 0.5


def test_neighbour_accuracy_takes_the_majority() -> None:
    known = torch.eye(2).repeat_interleave(15, dim=0)
    labels = torch.tensor([0] * 15 + [1] * 15)
    assert neighbour_accuracy(known, labels, torch.eye(2), torch.tensor([0, 1])) == 1.0
    assert neighbour_accuracy(known, labels, torch.eye(2), torch.tensor([1, 1])) == 0.5


def test_transformers_reloads_the_folder(trained: Path) -> None:
    loaded: Any = ViTModel.from_pretrained(trained / FOLDER, add_pooling_layer=False, output_loading_info=True)
    model, loading = loaded
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    processor = AutoImageProcessor.from_pretrained(trained / FOLDER)
    picture = fresh_pool(1, 1, 5).images[0]
    inputs = processor(images=[picture.permute(1, 2, 0).numpy()], return_tensors="pt")
    assert torch.allclose(inputs["pixel_values"][0], picture.float() / 127.5 - 1, atol=1e-4)
    assert model(**inputs).last_hidden_state.shape == (1, 65, 32)


def test_a_resumed_training_carries_the_teacher(trained: Path, tmp_path: Path) -> None:
    train_dino(TINY, tmp_path / "assets", tmp_path / "work", fresh_pool(8, 1, 3))
    train_dino(TINY, tmp_path / "assets", tmp_path / "work", fresh_pool(8, 1, 3))  # nothing left to do
    again = (tmp_path / "assets" / FOLDER / "model.safetensors").read_bytes()
    assert again == (trained / FOLDER / "model.safetensors").read_bytes()


def test_verify_gives_one_goal_and_figures(trained: Path) -> None:
    bars = verify_dino(trained, seed=8, count=24)
    assert [math.isnan(bar.goal) for bar in bars] == [False, True, True, True]
    assert all(math.isfinite(bar.figure) for bar in bars)


@pytest.mark.skipif(not (ASSETS / FOLDER).exists(), reason="DINO is not trained yet")
def test_shipped_dino_knows_people_a_little() -> None:
    bars = verify_dino(ASSETS, seed=4321, count=400)
    assert bars[0].figure > 0.52, bars
    assert bars[2].figure > 1.05, bars
