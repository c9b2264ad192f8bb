from __future__ import annotations

import math

import torch

from difflora.world.drawing.pose import pose_of
from difflora.world.scenes import Scenes, sample_scenes


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
