"""The world's reward model: its loss, a tiny training, its interface, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from difflora.encoders.image_reward import ImageReward
from difflora.errors import BadFile, BadParameter
from difflora.evaluation.reward import load_reward
from difflora.world.preferences import draw_preferences
from difflora.world.reward import FOLDER, RewardSettings, WorldReward, preference_loss, train_reward, verify_reward

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"
TINY = RewardSettings(pairs=60, hidden=32, dropout=0.0, steps=150, batch_size=32, lr=5e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stored CLIP with a small reward model of its own."""
    root = tmp_path_factory.mktemp("reward")
    shutil.copytree(ASSETS / "clip", root / "assets" / "clip")
    report = train_reward(TINY, root / "assets", root / "work")
    assert report["steps"] == 150
    return root / "assets"


def test_loss_is_that_of_bradley_and_terry() -> None:
    better, worse = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0])
    expected = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert float(preference_loss(better, worse)) == pytest.approx(expected)


def test_it_learns_what_it_is_shown(trained: Path) -> None:
    drawn, model = draw_preferences(TINY.pairs, TINY.seed), WorldReward(trained)
    better, worse = (model.reward(part.float() / 255, drawn.prompts) for part in (drawn.better, drawn.worse))
    assert float((better > worse).float().mean()) > 0.9
    both = torch.cat([better, worse])
    assert float(both.mean()) == pytest.approx(0, abs=1e-3), "scores are in units of their own"
    assert float(both.std()) == pytest.approx(1, abs=1e-2)


def test_evaluation_finds_it_by_name_with_image_rewards_interface(trained: Path) -> None:
    model = load_reward("difflora.world.reward:WorldReward", {"assets": str(trained)})
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    prompts = ["a photo of a man, smiling", "a photo of a woman, in a city", "a photo of a man, smiling"]
    found = model.reward(images, prompts)
    assert found.shape == (3,)
    torch.testing.assert_close(model.reward(images[1:2], prompts[1:2])[0], found[1], atol=1e-4, rtol=1e-4)
    assert model.reward(images[:0], []).shape == (0,)
    assert callable(ImageReward.reward)
    for pictures, words in ((images, prompts[:2]), (images[:, :, :32], prompts)):
        with pytest.raises(BadParameter, match=r"give \(N, 3, 64, 64\)"):
            model.reward(pictures, words)


def test_bars_have_one_goal(trained: Path) -> None:
    bars = verify_reward(trained, 77, 12)
    assert [math.isnan(bar.goal) for bar in bars] == [False, True, True, True]
    assert all(0 <= bar.figure <= 1 for bar in bars)


def test_a_finished_training_is_not_done_again(trained: Path) -> None:
    before = (trained / FOLDER / "diffusion_pytorch_model.safetensors").read_bytes()
    report = train_reward(TINY, trained, trained.parent / "work")
    assert report["steps"] == 150
    assert (trained / FOLDER / "diffusion_pytorch_model.safetensors").read_bytes() == before


def test_missing_or_other_models_are_named(trained: Path, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    with pytest.raises(BadFile, match="clip: no such folder"):
        WorldReward(assets)
    shutil.copytree(trained / "clip", assets / "clip")
    with pytest.raises(BadFile, match="reward: no such folder"):
        WorldReward(assets)
    shutil.copytree(trained / FOLDER, assets / FOLDER)
    WorldReward(assets)
    config = json.loads((assets / FOLDER / "config.json").read_text())
    (assets / FOLDER / "config.json").write_text(json.dumps(config | {"clip": "another"}))
    with pytest.raises(BadFile, match="learnt from another CLIP than is there now"):
        WorldReward(assets)
    (assets / FOLDER / "config.json").write_text(json.dumps(config | {"_class_name": "Judge"}))
    with pytest.raises(BadFile, match="describes 'Judge'"):
        WorldReward(assets)


@pytest.mark.skipif(not (ASSETS / FOLDER).exists(), reason="the reward model is not trained yet")
def test_shipped_reward_ranks_fresh_preferences() -> None:
    assert verify_reward(ASSETS, seed=4321, count=150)[0].figure > 0.85
