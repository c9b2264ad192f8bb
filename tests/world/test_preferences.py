from __future__ import annotations

import torch

from difflora.world.concepts import concepts, named
from difflora.world.preferences import ASKED, KINDS, draw_preferences, one_thing_changed, spoil
from difflora.world.scenes import Scenes, sample_scenes


def test_kinds_come_in_equal_parts_and_every_pair_differs() -> None:
    drawn = draw_preferences(12, 5)
    assert drawn.better.shape == drawn.worse.shape == (12, 3, 64, 64)
    assert drawn.better.dtype == drawn.worse.dtype == torch.uint8
    assert len(drawn.prompts) == 12
    assert set(drawn.kind.tolist()) == set(range(len(KINDS)))
    apart = (drawn.better.float() - drawn.worse.float()).abs().mean((1, 2, 3))
    assert (apart > 0.5).all(), apart
    again = draw_preferences(12, 5)
    assert torch.equal(again.worse, drawn.worse)
    assert again.prompts == drawn.prompts


def test_one_named_thing_is_another() -> None:
    generator = torch.Generator().manual_seed(0)
    scenes = sample_scenes(40, generator).replace(expression="sad", accessory="hat", background="beach")
    prompts = ["a photo of a man, looking sad, on a beach", "a man wearing a hat"] * 20
    changed, could = one_thing_changed(scenes, prompts, generator)
    assert could.all()
    moved = torch.stack([changed.index(name) != scenes.index(name) for name in Scenes.CATEGORICAL], dim=1)
    assert (moved.sum(1) == 1).all(), "exactly one attribute"
    columns = list(Scenes.CATEGORICAL)
    for place, prompt in enumerate(prompts):
        name = columns[int(moved[place].nonzero()[0])]
        assert name in ASKED
        value = f"{name}: {scenes.names(name)[place]}"
        assert named([prompt])[0, list(concepts()).index(value)], "the prompt names what was changed"


def test_a_prompt_that_names_nothing_has_nothing_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    scenes = sample_scenes(3, generator)
    changed, could = one_thing_changed(scenes, ["a photo of a man"] * 3, generator)
    assert not could.any()
    assert torch.equal(changed.categorical, scenes.categorical)


def test_spoilt_pictures_are_pictures_and_far_from_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    images = draw_preferences(4, 6).better.float().repeat(10, 1, 1, 1) / 255
    spoilt = spoil(images, generator)
    assert spoilt.shape == images.shape
    assert 0 <= float(spoilt.min()) <= float(spoilt.max()) <= 1
    assert ((spoilt - images).abs().mean((1, 2, 3)) > 0.01).all()
    assert spoil(images[:0], generator).shape == (0, 3, 64, 64)
