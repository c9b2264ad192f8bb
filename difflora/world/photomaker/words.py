"""Learning from words first: a picture of the person shall do what naming the person's traits does to the base.

The base's own output under a prompt that names traits is a target without noise. The denoising loss, of which naming
traits takes off a fiftieth, hides the same behind what nobody can foretell.
"""

from __future__ import annotations

from difflora.world.captions import CLASS_WORD, trait_words, with_traits
from difflora.world.traits import People

_VISIBLE = ("hair_style", "hair_colour", "skin_tone", "beard")


def visible_traits(people: People, row: int) -> list[str]:
    """A person's most visible traits in words, at least one."""
    words = trait_words(people, row)
    return [words[name] for name in _VISIBLE if name in words]


def name_traits(sentence: str, words: list[str]) -> str:
    """Says traits behind the sentence's class word, as captions do: "a photo of a man with a bun, brown hair, ..."."""
    return CLASS_WORD.sub(lambda found: found[0] + with_traits(words), sentence, count=1)
