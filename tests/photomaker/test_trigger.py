from __future__ import annotations

import pytest

from difflora.errors import BadParameter
from difflora.photomaker.trigger import class_word_place, read_prompt
from difflora.world.tokenizer import build_tokenizer


def test_the_class_word_stands_before_the_trigger_word() -> None:
    prompt = read_prompt("a photo of a man img, smiling")
    assert (prompt.before, prompt.after, prompt.class_word) == ("a photo of a man", ", smiling", "man")
    assert prompt.repeated(1) == "a photo of a man, smiling"
    assert prompt.repeated(3) == "a photo of a man man man, smiling"
    assert read_prompt("Woman  img").repeated(2) == "Woman Woman"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a photo of a man", "'img' 0 times"),
        ("a man img and a woman img", "'img' 2 times"),
        ("imgs of a man", "'img' 0 times"),
        ("img of a man", "no class word stands before"),
        ("a photo of a man, img", "no class word stands before"),
        ("a photo of the img", "no class word stands before"),
        ("a photo of 42 img", "no class word stands before"),
        ("", "'img' 0 times"),
    ],
)
def test_a_missing_or_doubtful_class_word_is_refused(prompt: str, said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        read_prompt(prompt)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_its_place_is_that_of_its_tokens(count: int) -> None:
    tokenizer = build_tokenizer()
    prompt = read_prompt("a close-up photo of a woman img, laughing, in a city")
    place = class_word_place(prompt, [tokenizer, tokenizer], count)
    ids = tokenizer(prompt.repeated(count)).input_ids
    word = tokenizer("woman", add_special_tokens=False).input_ids
    assert ids[place : place + count] == word * count
    assert word[0] not in ids[:place] + ids[place + count :]
    assert place == len(tokenizer("a close-up photo of a").input_ids) - 1


def test_a_class_word_of_many_tokens_and_too_many_pictures_are_refused() -> None:
    tokenizers = [build_tokenizer()]
    with pytest.raises(BadParameter, match=r"'cosmonaut' is \d+ tokens, one is needed"):
        class_word_place(read_prompt("a photo of a cosmonaut img"), tokenizers, 1)
    prompt = read_prompt("a photo of a man img")
    most = 64 - len(tokenizers[0](prompt.repeated(1)).input_ids) + 1
    assert class_word_place(prompt, tokenizers, most) == 5
    with pytest.raises(BadParameter, match=rf"has 65 tokens with {most + 1} reference pictures, at most 64"):
        class_word_place(prompt, tokenizers, most + 1)
