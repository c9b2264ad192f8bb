"""What pictures are drawn by: captions alone, as the pictures' own encoding has them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from difflora.corpus.base import FrozenBase
from difflora.corpus.draws import gather
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings
from difflora.errors import BadParameter
from difflora.training import captions as captions_module
from difflora.training import kept
from difflora.training.captions import EncodedCaptions
from difflora.training.pictures import EncodedPeople
from tests.tiny import sdxl


@pytest.mark.parametrize("most", [None, 1])
@pytest.mark.parametrize("is_xl", [False, True])
def test_they_are_told_as_the_pictures_are(
    base: FrozenBase, people: PeopleFolder, most: int | None, is_xl: bool
) -> None:
    base = FrozenBase.of(sdxl(), "xl", "weights") if is_xl else base
    names = people.ids[:3]
    pictures = EncodedPeople(base, people, names, most)
    whole = gather(base, [pictures[place] for place in (2, 0)], DreamBoothSettings())
    prompts, shape = EncodedCaptions(base, people, names, most).gather([2, 0])
    assert shape == tuple(whole.latents.shape[1:])
    assert (prompts.pooled_embeds is not None) == (prompts.time_ids is not None) == is_xl
    fields = ["prompt_embeds", "counts", "starts"] + ["pooled_embeds", "time_ids"] * is_xl
    for field in fields:
        torch.testing.assert_close(getattr(prompts, field), getattr(whole, field), rtol=0, atol=0)


def test_a_resolution_decides_the_size(base: FrozenBase, people: PeopleFolder) -> None:
    small, large = (
        EncodedCaptions(base, people, people.ids[:1], None, DreamBoothSettings(resolution=side)).gather([0])
        for side in (16, 32)
    )
    assert (2 * small[1][1], 2 * small[1][2]) == large[1][1:]


def test_captions_are_embedded_once(base: FrozenBase, people: PeopleFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    embed = captions_module.embed_captions
    monkeypatch.setattr(
        captions_module, "embed_captions", lambda base, texts: calls.append(len(texts)) or embed(base, texts)
    )
    captions = EncodedCaptions(base, people, people.ids[:2], None)
    first, again = captions.gather([0, 1]), captions.gather([0, 1])
    assert len(calls) == 2
    assert torch.equal(first[0].prompt_embeds, again[0].prompt_embeds)
    monkeypatch.setattr(kept, "_KEPT_BYTES", 0)
    beyond = EncodedCaptions(base, people, people.ids[:2], None)
    assert torch.equal(beyond.gather([0, 1])[0].prompt_embeds, first[0].prompt_embeds)
    beyond.gather([0, 1])
    assert len(calls) == 6, "what is not kept is made again"


def test_given_prompts_are_embedded_once_a_class_word(
    base: FrozenBase, people: PeopleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    embed = captions_module.embed_captions
    monkeypatch.setattr(
        captions_module, "embed_captions", lambda base, texts: asked.append(list(texts)) or embed(base, texts)
    )
    prompts = ["{person} on a beach", "a photo of {person}", "{person}, smiling"]
    made, shape = EncodedCaptions(base, people, people.ids, 1, prompts=prompts).gather(range(len(people.ids)))
    assert shape == EncodedCaptions(base, people, people.ids[:1], 1).gather([0])[1]
    assert made.counts.tolist() == [3] * len(people.ids), "most is of pictures"
    words = {str(people.line(name)["class_word"]) for name in people.ids}
    assert sorted(told[0] for told in asked[: len(words)]) == sorted(f"a {word} on a beach" for word in words)
    last = str(people.line(people.ids[-1])["class_word"])
    expected, _ = embed(base, [f"a {last} on a beach", f"a photo of a {last}", f"a {last}, smiling"])
    torch.testing.assert_close(made.prompt_embeds[-3:], expected, rtol=0, atol=0)


def test_sizes_that_differ_are_refused(base: FrozenBase, people: PeopleFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    find, first = PeopleFolder.person, people.ids[0]

    def person(self: PeopleFolder, name: str) -> Any:
        found = find(self, name)
        return dataclasses.replace(found, images=found.images[..., :16]) if name == first else found

    monkeypatch.setattr(PeopleFolder, "person", person)
    with pytest.raises(BadParameter, match=r"pictures of different sizes .* set a resolution"):
        EncodedCaptions(base, people, people.ids[:2], None).gather([0, 1])


def test_who_is_not_there_is_named(base: FrozenBase, people: PeopleFolder) -> None:
    with pytest.raises(BadParameter, match="x"):
        EncodedCaptions(base, people, ["x"], None)
