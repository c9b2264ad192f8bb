from __future__ import annotations

import re

import pytest
import torch

from difflora.world.captions import caption
from difflora.world.scenes import CLOTHING_COLOURS, Scenes, sample_scenes
from difflora.world.traits import People, sample_people

TRAITS = re.compile(
    r"\b(eyes|eyebrows|skin|face shape|nose|lips|ears|jaw|bald head|freckles|mole|scar|birthmark|beard)\b"
)


def sample(n: int, seed: int = 0) -> tuple[People, Scenes]:
    generator = torch.Generator().manual_seed(seed)
    return sample_people(n, generator), sample_scenes(n, generator)


def write(people: People, scenes: Scenes, seed: int = 0, **settings: float | str) -> list[str]:
    return caption(people, scenes, torch.Generator().manual_seed(seed), **settings)  # type: ignore[arg-type]


def test_same_seed_same_sentences() -> None:
    people, scenes = sample(40)
    assert write(people, scenes, 1) == write(people, scenes, 1)
    assert write(people, scenes, 1) != write(people, scenes, 2)


def test_sentences_say_the_scene() -> None:
    people, scenes = sample(200)
    for row, sentence in enumerate(write(people, scenes)):
        assert re.search(rf"\b{people.gender[row]}\b", sentence)
        colour, clothes = scenes.names("clothing_colour")[row], scenes.names("clothes")[row]
        assert f"wearing {'an' if colour == 'orange' else 'a'} {colour} {clothes}" in sentence
        accessory = scenes.names("accessory")[row]
        worn = {word for word in ("glasses", "sunglasses", "hat", "beanie", "headphones") if f" {word}" in sentence}
        assert worn == ({accessory} - {"none"})


@pytest.mark.parametrize(
    ("name", "word", "said"),
    [
        ("expression", "surprised", "surprised"),
        ("expression", "laughing", "laughing"),
        ("background", "beach", "beach"),
        ("background", "pink studio", "pink"),
        ("pose", "left", "left"),
        ("light", "warm", "warm"),
        ("framing", "close-up", "close-up"),
    ],
)
def test_a_scene_attribute_has_its_words(name: str, word: str, said: str) -> None:
    people, scenes = sample(12)
    calm = {"pose": "front", "light": "even"}
    scenes = scenes.replace(**{**calm, name: word})  # type: ignore[arg-type]
    assert all(said in sentence for sentence in write(people, scenes))


def test_several_templates() -> None:
    people, scenes = sample(1)
    wordings = {write(people, scenes, seed, trait_dropout=1.0)[0] for seed in range(60)}
    assert len(wordings) > 10


def test_full_dropout_leaves_identity_open() -> None:
    people, scenes = sample(200)
    for sentence in write(people, scenes, trait_dropout=1.0):
        assert not TRAITS.search(sentence), sentence
        assert "hair" not in sentence


def test_traits_appear_only_sometimes_and_one_by_one() -> None:
    people, scenes = sample(400)
    named = [sum(word in s for word in (" hair", "eyes", "skin", "nose", "lips")) for s in write(people, scenes)]
    assert 0.25 < sum(n == 0 for n in named) / 400 < 0.75
    assert max(named) > 1


def test_a_named_trait_is_true() -> None:
    people, scenes = sample(300)
    for row, sentence in enumerate(write(people, scenes, trait_dropout=0.0)):
        for colour in ("brown", "blue", "green", "grey"):
            if f"{colour} eyes" in sentence:
                assert people.names("eye_colour")[row] == colour
        if "dark skin" in sentence:
            assert people.value("skin_tone")[row] > 2 / 3
        if "light skin" in sentence:
            assert people.value("skin_tone")[row] < 1 / 3


def test_scene_dropout_leaves_the_scene_open() -> None:
    people, scenes = sample(50)
    for sentence in write(people, scenes, trait_dropout=1.0, scene_dropout=1.0):
        assert re.fullmatch(r"a photo of a (man|woman)", sentence)


def test_subject_word() -> None:
    people, scenes = sample(5)
    assert all(re.search(r"\bsks (man|woman)\b", s) for s in write(people, scenes, subject="sks"))
    assert len(CLOTHING_COLOURS) == 8
