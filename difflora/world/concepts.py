"""What a caption says, read off its words: the truth that text encoders learn from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from difflora.world import captions
from difflora.world.scenes import CLOTHES, CLOTHING_COLOURS
from difflora.world.traits import BEARDS, EYE_COLOURS, GENDERS, HAIR_COLOURS, MARKS


@cache
def concepts() -> Mapping[str, re.Pattern[str]]:
    """Every concept that a caption may name, and the words that name it: "accessory: hat" by "wearing a hat"..."""
    phrases: dict[str, tuple[str, ...]] = {f"gender: {word}": (word,) for word in GENDERS}
    for name, table in captions.SCENE_WORDS.items():
        phrases |= {f"{name}: {value}": tuple(filter(None, words)) for value, words in table.items()}
    phrases |= {f"clothing_colour: {colour}": tuple(f"{colour} {c}" for c in CLOTHES) for colour in CLOTHING_COLOURS}
    phrases |= {f"clothes: {kind}": tuple(f"{c} {kind}" for c in CLOTHING_COLOURS) for kind in CLOTHES}
    phrases |= {f"hair_style: {value}": (word,) for value, word in captions.HAIR_STYLE_WORDS.items()}
    phrases |= {f"hair_colour: {colour}": (f"{colour} hair",) for colour in HAIR_COLOURS}
    phrases |= {f"eye_colour: {colour}": (f"{colour} eyes",) for colour in EYE_COLOURS}
    phrases |= {
        f"{kind}: {word}": (word,) for kind, words in (("beard", BEARDS), ("mark", MARKS)) for word in words[1:]
    }
    phrases |= {f"{name}: {word}": (word,) for name, pair in captions.COARSE_WORDS.items() for word in pair}
    return {
        name: re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\b")
        for name, words in phrases.items()
        if words
    }


def named(sentences: Sequence[str]) -> Tensor:
    """Which concepts each sentence names, (N, concepts) bool."""
    patterns = list(concepts().values())
    return torch.tensor([[p.search(sentence) is not None for p in patterns] for sentence in sentences])
