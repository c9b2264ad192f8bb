from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import Person, no_boxes
from difflora.errors import BadParameter
from difflora.evaluation.textual_inversion import TextualInversion, TextualInversionSettings
from tests.tiny import sdxl

SETTINGS = TextualInversionSettings(steps=12, batch_size=2, lr=0.05, words=2, people_at_once=2)


@pytest.fixture(scope="module")
def base() -> FrozenBase:
    """A tiny base whose second encoder has the old, wrong end of text, as SDXL's has."""
    pipeline = sdxl()
    for module in pipeline.text_encoder_2.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = 2
    return FrozenBase.of(pipeline, "tiny", "tiny weights")


def _person(name: str, colour: float, side: int = 64, count: int = 3) -> Person:
    images = torch.full((count, 3, side, side), colour * 255).byte()
    return Person(name, "woman", images, ["a photo of a woman"] * count, images[:0], [], no_boxes(images))


PEOPLE = [_person("anna", 0.1), _person("bella", 0.5), _person("clara", 0.9)]


def _embed(base: FrozenBase, prompt: str) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        output = base.pipeline.encode_prompt(prompt, num_images_per_prompt=1, do_classifier_free_guidance=False)
    return output[0], output[2]


def test_words_are_learnt_and_the_base_stays_as_it_was(base: FrozenBase) -> None:
    before, weights = _embed(base, "a photo of a woman"), [p.clone() for p in base.pipeline.text_encoder.parameters()]
    with TextualInversion(base, PEOPLE, SETTINGS) as words:
        start = _embed(base, words.prompt(1, "a photo of a woman", "a woman"))
        losses = words.train()
        end = _embed(base, words.prompt(1, "a photo of a woman", "a woman"))
        others = _embed(base, words.prompt(2, "a photo of a woman", "a woman"))
        torch.testing.assert_close(_embed(base, "a photo of a woman"), before, rtol=0, atol=0)
    assert losses.shape == (12, 3)
    assert (losses[-4:].mean(0) < losses[:4].mean(0) + 0.05).all()
    for one, two in ((start, end), (end, others)):
        assert (one[0] - two[0]).abs().max() > 1e-3
        assert (one[1] - two[1]).abs().max() > 1e-4, "the pooled embedding sees the words, from the end of the text"
    torch.testing.assert_close(_embed(base, "a photo of a woman"), before, rtol=0, atol=0)
    for own, old in zip(base.pipeline.text_encoder.parameters(), weights, strict=True):
        assert torch.equal(own, old)
    ends = [m.eos_token_id for m in base.pipeline.text_encoder_2.modules() if hasattr(m, "eos_token_id")]
    assert ends
    assert set(ends) == {2}


def test_the_end_of_the_text_is_not_the_new_word(base: FrozenBase) -> None:
    """The old rule takes the largest id, which a new word has: the words after it would not count."""
    with TextualInversion(base, PEOPLE[:1], SETTINGS) as words:
        one, two = (
            _embed(base, words.prompt(0, f"a photo of a woman, {after}", "a woman")) for after in ("smiling", "sad")
        )
        assert (one[1] - two[1]).abs().max() > 1e-4


def test_a_persons_words_do_not_depend_on_company(base: FrozenBase) -> None:
    vectors = []
    for people, place in ((PEOPLE[:2], 1), (PEOPLE[1:2], 0)):
        with TextualInversion(base, people, SETTINGS) as words:
            words.train()
            vectors.append(_embed(base, words.prompt(place, "a photo of a woman", "a woman"))[0])
    torch.testing.assert_close(vectors[0], vectors[1], atol=2e-3, rtol=0)


def test_prompts_without_the_words_get_them_first(base: FrozenBase) -> None:
    with TextualInversion(base, PEOPLE[:1], SETTINGS) as words:
        assert words.prompt(0, "a woman, a woman", "a woman") == "<person-0-0> <person-0-1>, a woman"
        assert words.prompt(0, "on a beach", "a woman") == "<person-0-0> <person-0-1>, on a beach"


def test_nobody_and_mixed_sizes_are_errors(base: FrozenBase) -> None:
    for people, said in (
        ([], "at least one"),
        ([_person("x", 0.5, count=0)], "at least one"),
        ([PEOPLE[0], _person("x", 0.5, 32)], "sizes"),
    ):
        with pytest.raises(BadParameter, match=said):
            TextualInversion(base, people, SETTINGS)
