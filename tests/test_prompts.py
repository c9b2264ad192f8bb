from __future__ import annotations

import pytest

from difflora.prompts import for_person, without_person


@pytest.mark.parametrize(("word", "said"), [("man", "a photo of a man"), ("actor", "a photo of an actor")])
def test_a_person_is_put_in_place_with_the_article(word: str, said: str) -> None:
    assert for_person("a photo of {person}", word) == said
    assert for_person("nobody here", word) == "nobody here"


def test_the_first_prompt_that_has_nobody_is_named() -> None:
    assert without_person(["{person}", "a wall", "a door"]) == "a wall"
    assert without_person(["{person}", "by a wall, {person}"]) is None
    assert without_person([]) is None
