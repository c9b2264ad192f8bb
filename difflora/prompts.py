"""Prompts that leave open who is drawn."""

from __future__ import annotations

PERSON = "{person}"
"""Where a prompt has the person."""


def for_person(prompt: str, class_word: str) -> str:
    """A prompt with the person in place: 'a man', 'an actor'."""
    return prompt.replace(PERSON, f"{'an' if class_word[:1] in 'aeiou' else 'a'} {class_word}")
