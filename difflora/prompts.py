"""Prompts that leave open who is drawn."""

from __future__ import annotations

from collections.abc import Iterable

PERSON = "{person}"
"""Where a prompt has the person."""


def check_prompts(prompts: Iterable[str]) -> None:
    """Refuses, for a validator of settings, prompts that do not say where the person is.

    Raises:
        ValueError: if there is such a prompt; the first one is named.
    """
    for prompt in prompts:
        if PERSON not in prompt:
            raise ValueError(f"prompts: {prompt!r} does not say where the person is; write {PERSON}")


def for_person(prompt: str, class_word: str) -> str:
    """A prompt with the person in place: 'a man', 'an actor'."""
    return prompt.replace(PERSON, f"{'an' if class_word[:1] in 'aeiou' else 'a'} {class_word}")
