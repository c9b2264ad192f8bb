from __future__ import annotations

import math

import pytest
import torch

from difflora.world.drawing.pose import pose_of
from difflora.world.scenes import SHOWN, Scenes, sample_scenes, spread_scenes


def sample(n: int, seed: int) -> Scenes:
    return sample_scenes(n, torch.Generator().manual_seed(seed))


def test_same_seed_same_scenes() -> None:
    a, b = sample(30, 3), sample(30, 3)
    assert torch.equal(a.continuous, b.continuous)
    assert torch.equal(a.categorical, b.categorical)


def test_every_value_occurs() -> None:
    scenes = sample(1000, 0)
    for name, words in Scenes.CATEGORICAL.items():
        assert set(scenes.index(name).tolist()) == set(range(len(words))), name


def test_half_wear_nothing_and_half_face_the_camera() -> None:
    scenes = sample(2000, 1)
    assert abs((scenes.index("accessory") == 0).float().mean() - 0.5) < 0.05
    assert abs((scenes.index("pose") == 0).float().mean() - 0.5) < 0.05


def test_a_pose_means_what_its_word_says() -> None:
    scenes = sample(1500, 2)
    degrees = pose_of(scenes).yaw * 180 / math.pi
    word = scenes.index("pose")
    assert degrees[word == 0].abs().max() <= 8.001
    assert degrees[word == 1].max() <= -11.999
    assert degrees[word == 2].min() >= 11.999
    assert degrees.abs().max() <= 28.001


def test_framing_orders_the_sizes_of_heads() -> None:
    scale = pose_of(sample(900, 3)).scale
    framing = sample(900, 3).index("framing")
    portrait, close, distant = (scale[framing == i] for i in range(3))
    assert distant.max() < portrait.min()
    assert portrait.max() < close.min()


@pytest.mark.parametrize("count", [1, 5, 12, 48])
def test_spread_scenes_show_every_word_as_often(count: int) -> None:
    scenes = spread_scenes(count, torch.Generator().manual_seed(count))
    assert len(scenes) == count
    for name in SHOWN:
        times = scenes.index(name).bincount(minlength=len(Scenes.CATEGORICAL[name]))
        assert times.max() - times.min() <= 1, name


def test_spread_scenes_are_of_their_seed_and_pair_words_by_chance() -> None:
    one, again, other = (spread_scenes(48, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.continuous, again.continuous)
    assert torch.equal(one.categorical, again.categorical)
    assert not torch.equal(one.categorical, other.categorical)
    assert len(set(zip(one.names("accessory"), one.names("expression"), strict=True))) > 20
