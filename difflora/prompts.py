"""Prompts that leave open who is drawn."""

from __future__ import annotations

from collections.abc import Iterable

PERSON = "{person}"
"""Where a prompt has the person."""


def without_person(prompts: Iterable[str]) -> str | None:
    """The first prompt that does not say where the person is; None where all do."""
    return next((prompt for prompt in prompts if PERSON not in prompt), None)


def for_person(prompt: str, class_word: str) -> str:
    """A prompt with the person in place: 'a man', 'an actor'."""
    return prompt.replace(PERSON, f"{'an' if class_word[:1] in 'aeiou' else 'a'} {class_word}")
