from __future__ import annotations

import pytest

from difflora.prompts import check_prompts, for_person


@pytest.mark.parametrize(("word", "said"), [("man", "a photo of a man"), ("actor", "a photo of an actor")])
def test_a_person_is_put_in_place_with_the_article(word: str, said: str) -> None:
    assert for_person("a photo of {person}", word) == said
    assert for_person("nobody here", word) == "nobody here"


def test_the_first_prompt_that_has_nobody_is_named() -> None:
    with pytest.raises(ValueError, match=r"^prompts: 'a wall' does not say where the person is; write \{person\}$"):
        check_prompts(["{person}", "a wall", "a door"])
    check_prompts(["{person}", "by a wall, {person}"])
    check_prompts([])
