"""Prompts that candidates are made from: ours for women and men, or a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from difflora.errors import BadFile
from difflora.prompts import PERSON

AXES = ("view", "expression", "attribute", "scene")
OWN: Mapping[str, str] = MappingProxyType({"woman": "women.txt", "man": "men.txt"})
"""Class word -> our file of 100 prompts."""


@dataclass(frozen=True)
class TaggedPrompt:
    """A prompt with ``{person}`` in the person's place, and what it varies.

    Attributes:
        text: the sentence.
        tags: axis -> value; empty where a file gives none.
    """

    text: str
    tags: Mapping[str, str]


def own_prompts(class_word: str) -> list[TaggedPrompt]:
    """Our 100 prompts for a woman or a man.

    Raises:
        KeyError: for another class word.
    """
    name = OWN[class_word]
    return parse((resources.files("difflora.identities") / "prompts" / name).read_text(encoding="utf-8"), name)


def read_prompts(path: str | Path) -> list[TaggedPrompt]:
    """A file of prompts: one a line, with or without ``view | expression | attribute | scene |`` before it.

    Raises:
        BadFile: if it is missing or no text, has no prompt or one twice, or a line has another number of tags or not
            exactly one ``{person}``.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path}: cannot be read as text ({error}); give a file with a prompt a line") from error
    return parse(text, str(path))


def parse(text: str, where: str) -> list[TaggedPrompt]:
    """The prompts of a file's text; lines that begin with # are comments."""
    found: dict[str, TaggedPrompt] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        *tags, prompt = (part.strip() for part in line.split("|"))
        if tags and len(tags) != len(AXES):
            raise BadFile(f"{where}: line {number} has {len(tags)} tags; give {' | '.join(AXES)}, or none")
        if prompt.count(PERSON) != 1:
            raise BadFile(f"{where}: line {number} has {PERSON} {prompt.count(PERSON)} times; put it once")
        if prompt in found:
            raise BadFile(f"{where}: line {number} says what an earlier one said; give each prompt once")
        found[prompt] = TaggedPrompt(prompt, dict(zip(AXES, tags, strict=False)))
    if not found:
        raise BadFile(f"{where}: holds no prompt; give one a line")
    return list(found.values())
