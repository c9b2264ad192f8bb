"""Natural sentences for a picture: the scene, and the coarse traits of the person that are not dropped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch

from difflora.world.scenes import Scenes
from difflora.world.traits import GENDERS, People

CLASS_WORD = re.compile(rf"\b({'|'.join(GENDERS)})\b")
"""Finds the person in a sentence."""

_BACKGROUND = {
    "beach": ("on a beach", "at the beach"),
    "forest": ("in a forest", "in the woods"),
    "night sky": ("under a night sky", "under the stars at night"),
    "city": ("in a city", "in front of city buildings"),
    "mountains": ("in the mountains", "in front of snowy mountains"),
    "room": ("in a room", "inside a room with a window"),
    "grey studio": ("in a grey studio", "in front of a grey wall"),
    "pink studio": ("in a pink studio", "in front of a pink wall"),
}
_EXPRESSION = {
    "neutral": ("with a neutral expression", "looking calm"),
    "smiling": ("smiling", "with a smile"),
    "laughing": ("laughing", "laughing out loud"),
    "sad": ("looking sad", "with a sad face"),
    "angry": ("looking angry", "with an angry face"),
    "surprised": ("looking surprised", "with a surprised face"),
}
_ACCESSORY = {
    "glasses": ("wearing glasses", "with glasses"),
    "sunglasses": ("wearing sunglasses", "with sunglasses"),
    "hat": ("wearing a hat", "with a hat"),
    "beanie": ("wearing a beanie", "with a beanie"),
    "headphones": ("wearing headphones", "with headphones"),
}
_POSE = {
    "front": ("facing the camera", ""),
    "left": ("turned to the left", "looking to the left"),
    "right": ("turned to the right", "looking to the right"),
}
_FRAMING = {
    "portrait": ("a photo of", "a portrait of", "a picture of"),
    "close-up": ("a close-up photo of", "a close-up of"),
    "distant": ("a photo from a distance of", "a distant photo of"),
}
_LIGHT = {
    "even": ("", "in even light"),
    "left": ("lit from the left", "with light from the left"),
    "right": ("lit from the right", "with light from the right"),
    "warm": ("in warm light", "in warm evening light"),
    "dim": ("in dim light", "in the dark"),
}
HAIR_STYLE_WORDS: Mapping[str, str] = {
    "bald": "a bald head",
    "buzz cut": "a buzz cut",
    "short": "short hair",
    "side part": "a side part",
    "curly": "curly hair",
    "bob": "a bob",
    "long": "long hair",
    "bun": "a hair bun",
    "mohawk": "a mohawk",
}
# Continuous traits that a caption may name at their ends: (below 1/3, above 2/3).
COARSE_WORDS: Mapping[str, tuple[str, str]] = {
    "skin_tone": ("light skin", "dark skin"),
    "face_width": ("a narrow face", "a wide face"),
    "face_length": ("a short face", "a long face"),
    "jaw_width": ("a narrow jaw", "a broad jaw"),
    "eye_size": ("small eyes", "big eyes"),
    "eye_spacing": ("close-set eyes", "wide-set eyes"),
    "brow_thickness": ("thin eyebrows", "thick eyebrows"),
    "nose_length": ("a short nose", "a long nose"),
    "nose_width": ("a narrow nose", "a wide nose"),
    "mouth_width": ("a small mouth", "a wide mouth"),
    "lip_thickness": ("thin lips", "full lips"),
    "ear_size": ("small ears", "big ears"),
}

SCENE_WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "expression": _EXPRESSION,
    "accessory": _ACCESSORY,
    "pose": _POSE,
    "framing": _FRAMING,
    "background": _BACKGROUND,
    "light": _LIGHT,
}


def _pick(options: tuple[str, ...], generator: torch.Generator) -> str:
    return options[int(torch.randint(0, len(options), (1,), generator=generator))]


def trait_words(people: People, row: int) -> dict[str, str]:
    """What a caption may say of a person: trait -> words, such as ``{"hair_style": "a bob", ...}``."""
    person = people[row : row + 1]
    style, colour, eyes, beard, mark = (
        person.names(name)[0] for name in ("hair_style", "hair_colour", "eye_colour", "beard", "mark")
    )
    words = {"hair_style": HAIR_STYLE_WORDS[style]}
    if style != "bald":
        words["hair_colour"] = f"{colour} hair"
    words["eye_colour"] = f"{eyes} eyes"
    if beard != "none":
        words["beard"] = "stubble" if beard == "stubble" else f"a {beard}"
    if mark != "none":
        words["mark"] = "freckles" if mark == "freckles" else f"a {mark}"
    for name, (low, high) in COARSE_WORDS.items():
        value = float(person.value(name))
        if not 1 / 3 <= value <= 2 / 3:
            words[name] = low if value < 0.5 else high
    return words


def with_traits(words: Sequence[str]) -> str:
    """What follows the class word: " with curly hair and a beard, big eyes"; nothing where there are no words."""
    if not words:
        return ""
    return f" with {' and '.join(words[:2])}" + "".join(f", {word}" for word in words[2:])


def _traits(people: People, row: int, dropout: float, generator: torch.Generator) -> list[str]:
    """The person's coarse traits in words, each kept with probability 1 - dropout."""
    words = list(trait_words(people, row).values())
    keep = torch.rand(len(words), generator=generator) >= dropout
    kept = [word for word, k in zip(words, keep.tolist(), strict=True) if k]
    return [kept[i] for i in torch.randperm(len(kept), generator=generator).tolist()]


def caption(
    people: People,
    scenes: Scenes,
    generator: torch.Generator,
    *,
    trait_dropout: float = 0.7,
    scene_dropout: float = 0.0,
    max_traits: int = 4,
    subject: str = "",
) -> list[str]:
    """Describes each picture in one sentence.

    Args:
        people: N identities.
        scenes: N scenes.
        generator: draws the template, the wording and what is dropped.
        trait_dropout: probability with which each coarse trait is left out; 1 leaves identity open. A quarter of
            the sentences name no trait whatever this is.
        scene_dropout: probability with which each part of the scene is left out.
        max_traits: the most traits in one sentence.
        subject: a word before the class word, such as a DreamBooth token ("sks").

    Returns:
        N sentences such as "a photo of a man with curly hair, smiling, wearing glasses and a red shirt, on a beach".
    """
    columns = {name: scenes.names(name) for name in Scenes.CATEGORICAL}
    sentences = []
    for row, gender in enumerate(people.gender):
        dropout = 1.0 if float(torch.rand(1, generator=generator)) < 0.25 else trait_dropout
        traits = _traits(people, row, dropout, generator)[:max_traits]
        kept = torch.rand(7, generator=generator) >= scene_dropout

        def part(
            place: int, name: str, table: Mapping[str, tuple[str, ...]], row: int = row, kept: torch.Tensor = kept
        ) -> str:
            word = columns[name][row]
            return _pick(table[word], generator) if kept[place] and word in table else ""

        noun = f"{subject} {gender}" if subject else f"a {gender}"
        framing = part(0, "framing", _FRAMING) or "a photo of"
        who = f"{framing} {noun}{with_traits(traits)}"
        article = "an" if columns["clothing_colour"][row] == "orange" else "a"
        clothes = f"{article} {columns['clothing_colour'][row]} {columns['clothes'][row]}" if kept[1] else ""
        accessory = part(2, "accessory", _ACCESSORY)
        dress = f"wearing {clothes}" if clothes else ""
        parts = [part(3, "expression", _EXPRESSION), accessory, dress]
        if torch.rand(1, generator=generator) < 0.5:
            parts.reverse()
        parts += [part(4, "pose", _POSE), part(5, "background", _BACKGROUND), part(6, "light", _LIGHT)]
        sentences.append(", ".join([who, *(p for p in parts if p)]))
    return sentences
