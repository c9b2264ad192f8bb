"""Traits said in words, for the base to draw what a picture shall stand for."""

from __future__ import annotations

import torch

from difflora.world.captions import caption, trait_words, with_traits
from difflora.world.photomaker.words import name_traits, visible_traits
from difflora.world.scenes import sample_scenes
from difflora.world.traits import sample_people


def test_visible_traits_are_those_that_captions_know() -> None:
    people = sample_people(200, torch.Generator().manual_seed(0))
    for row in range(200):
        words, known = visible_traits(people, row), trait_words(people, row)
        assert 1 <= len(words) <= 4
        assert words[0] == known["hair_style"]
        assert set(words) <= set(known.values())
        assert ("beard" in known) == (known.get("beard") in words)
        assert not any("eyes" in word for word in words)


def test_they_stand_behind_the_class_word() -> None:
    generator = torch.Generator().manual_seed(1)
    people, scenes = sample_people(50, generator), sample_scenes(50, generator)
    for row, sentence in enumerate(caption(people, scenes, generator, trait_dropout=1.0)):
        words = visible_traits(people, row)
        named = name_traits(sentence, words)
        assert f" {people.gender[row]}{with_traits(words)}" in named
        assert named.replace(with_traits(words), "", 1) == sentence


def test_as_captions_say_them() -> None:
    assert with_traits([]) == ""
    assert with_traits(["a bob"]) == " with a bob"
    assert with_traits(["a bob", "black hair", "light skin"]) == " with a bob and black hair, light skin"
    assert name_traits("a photo of a woman, smiling", ["a bob"]) == "a photo of a woman with a bob, smiling"
