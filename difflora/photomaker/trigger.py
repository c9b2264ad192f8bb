"""Where a prompt has its person: the class word before the trigger word, as in ``a photo of a man img, smiling``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from difflora.errors import BadParameter

TRIGGER = "img"

_TRIGGER = re.compile(rf"\b{TRIGGER}\b")
_WORD = re.compile(r"[^\W\d_]+$")
_NO_NOUN = frozenset(
    ["a", "an", "the", "of", "in", "on", "at", "with", "and", "or", "by", "to", "from", "for", "is", "as"]
)


@dataclass(frozen=True)
class MarkedPrompt:
    """A prompt whose person is known.

    Attributes:
        before: all up to the class word, and the class word.
        after: all behind the trigger word.
        class_word: what stands before the trigger word.
    """

    before: str
    after: str
    class_word: str

    def repeated(self, count: int) -> str:
        """The prompt without its trigger word, saying the class word ``count`` times over; once is the plain prompt."""
        return self.before + f" {self.class_word}" * (count - 1) + self.after


def read_prompt(prompt: str) -> MarkedPrompt:
    """Finds the class word of a prompt.

    Raises:
        BadParameter: if the trigger word is missing or comes twice, or no word that could be the person's stands
            before it.
    """
    found = list(_TRIGGER.finditer(prompt))
    if len(found) != 1:
        raise BadParameter(
            f"prompt {prompt!r}: has the trigger word {TRIGGER!r} {len(found)} times; put it once, behind the class "
            f"word, as in 'a photo of a man {TRIGGER}, smiling'"
        )
    before, after = prompt[: found[0].start()].rstrip(), prompt[found[0].end() :]
    word = _WORD.search(before)
    if word is None or word[0].lower() in _NO_NOUN:
        raise BadParameter(
            f"prompt {prompt!r}: no class word stands before {TRIGGER!r}; say who it is, as in 'a woman {TRIGGER}'"
        )
    return MarkedPrompt(before, after, word[0])


def class_word_place(prompt: MarkedPrompt, tokenizers: Iterable[Any], count: int) -> int:
    """Where the class word stands among the tokens, counted from 0 with the start token.

    Args:
        prompt: the prompt.
        tokenizers: CLIP tokenizers; all must place it alike.
        count: how often the class word is said.

    Raises:
        BadParameter: if the class word is more than one token, so that its place is open, or the prompt with so many
            class words has more tokens than the text encoders take.
    """
    places = set()
    for tokenizer in tokenizers:
        word = tokenizer(prompt.class_word, add_special_tokens=False).input_ids
        if len(word) != 1:
            raise BadParameter(
                f"prompt {prompt.before!r}: the class word {prompt.class_word!r} is {len(word)} tokens, one is needed; "
                "take a common one, such as man, woman or person"
            )
        place = len(tokenizer(prompt.before, add_special_tokens=False).input_ids)
        ids = tokenizer(prompt.repeated(count), truncation=False).input_ids
        if len(ids) > tokenizer.model_max_length:
            raise BadParameter(
                f"prompt {prompt.before + prompt.after!r}: has {len(ids)} tokens with {count} reference pictures, at "
                f"most {tokenizer.model_max_length} are read; shorten it, or give fewer pictures"
            )
        if ids[place : place + count] != word * count:
            raise BadParameter(
                f"prompt {prompt.before!r}: the class word runs into what stands around it; set it apart"
            )
        places.add(place)
    if len(places) != 1:
        raise BadParameter(f"prompt {prompt.before!r}: the text encoders' tokenizers place the class word differently")
    return places.pop()
