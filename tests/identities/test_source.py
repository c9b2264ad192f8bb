from __future__ import annotations

import re

import pytest
import torch

from difflora.errors import BadParameter
from difflora.identities.source import ImageSource, load_source
from difflora.world.identities import RenderedPeople

RENDERED = "difflora.world.identities:RenderedPeople"


def test_the_renderer_is_a_source_found_by_name() -> None:
    source = load_source(RENDERED, {"seed": 3})
    assert isinstance(source, ImageSource)
    assert source.settings["seed"] == 3
    assert source.ids(2) == ["rendered-3-000000", "rendered-3-000001"]
    assert source.ids(5)[:2] == source.ids(2)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("nowhere:Thing", {}, "cannot be found"),
        ("difflora.world.identities:Nobody", {}, "cannot be found"),
        ("RenderedPeople", {}, "cannot be found"),
        ("difflora.world.identities:render", {}, "is no class with ids, candidates"),
        (RENDERED, {"colour": 1}, "'colour'"),
        ("difflora.errors:BadFile", {}, "is no class with ids, candidates"),
        (RENDERED, {"seed": -1}, "seed is -1"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        load_source(name, options)


def test_a_rendered_person_is_a_function_of_id_and_seed() -> None:
    one, two = RenderedPeople(), RenderedPeople()
    made, again = one.candidates("rendered-0-000007", 3, 5), two.candidates("rendered-0-000007", 3, 5)
    assert torch.equal(made.images, again.images)
    assert made.captions == again.captions
    assert made.images.shape == (3, 3, 64, 64)
    assert not torch.equal(made.images, one.candidates("rendered-0-000007", 3, 6).images)
    person, other = one.person("rendered-0-000007"), one.person("rendered-0-000008")
    assert torch.equal(person.continuous, two.person("rendered-0-000007").continuous)
    assert not torch.equal(person.continuous, other.continuous)
    assert made.class_word == person.gender[0]


def test_the_first_scenes_are_everyones_where_asked() -> None:
    source = RenderedPeople(same_scenes=4)
    one, other = (source.candidates(identity, 7, 5) for identity in source.ids(2))
    dress = re.compile(r"wearing an? (\w+ (?:t-shirt|shirt|hoodie))")
    worn = [[match.group(1) for match in map(dress.search, made.captions) if match] for made in (one, other)]
    assert len(worn[0]) == len(worn[1]) == 7
    assert worn[0][:4] == worn[1][:4]
    assert worn[0][4:] != worn[1][4:]
    assert not torch.equal(one.images[:4], other.images[:4])
    again = source.candidates("rendered-0-000000", 7, 6)
    assert torch.equal(again.images[:4], one.images[:4])
    assert not torch.equal(again.images[4:], one.images[4:])
    assert source.candidates("rendered-0-000000", 3, 5).captions == one.captions[:3]
    with pytest.raises(BadParameter, match="same_scenes is -1"):
        RenderedPeople(same_scenes=-1)


def test_everyones_scenes_show_every_accessory_as_often() -> None:
    for seed in range(3):
        made = RenderedPeople(seed, same_scenes=12).candidates(f"rendered-{seed}-000000", 12, 5)
        for word in ("glasses", "sunglasses", "hat", "beanie", "headphones"):
            worn = [caption for caption in made.captions if re.search(rf"(?:with|wearing) (?:an? )?{word}\b", caption)]
            assert len(worn) == 2, (seed, word, made.captions)


def test_captions_leave_the_identity_open() -> None:
    made = RenderedPeople(subject="sks").candidates("rendered-0-000007", 40, 5)
    assert all(f"sks {made.class_word}" in caption for caption in made.captions)
    words = " ".join(made.captions)
    assert not any(trait in words for trait in ("hair", "eyes", "nose", "beard", "freckles", "skin", "jaw"))


@pytest.mark.parametrize("identity", ["rendered-1-000000", "anna", "rendered-0-7"])
def test_strangers_are_refused(identity: str) -> None:
    with pytest.raises(BadParameter, match=r"is nobody of seed 0: ids are like rendered-0-000000"):
        RenderedPeople().candidates(identity, 1, 0)
