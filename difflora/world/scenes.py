"""What a prompt controls: all of a picture that is not the person's identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from difflora.world.table import Table

EXPRESSIONS = ("neutral", "smiling", "laughing", "sad", "angry", "surprised")
ACCESSORIES = ("none", "glasses", "sunglasses", "hat", "beanie", "headphones")
CLOTHING_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
CLOTHES = ("t-shirt", "shirt", "hoodie")
BACKGROUNDS = ("beach", "forest", "night sky", "city", "mountains", "room", "grey studio", "pink studio")
LIGHTS = ("even", "left", "right", "warm", "dim")
POSES = ("front", "left", "right")
FRAMINGS = ("portrait", "close-up", "distant")
SHOWN = ("expression", "accessory", "clothing_colour", "clothes", "background")
"""What is seen in a scene, rather than how it is seen (pose, light and framing)."""


class Scenes(Table):
    """A batch of pictures' circumstances."""

    CONTINUOUS: ClassVar[tuple[str, ...]] = (
        "yaw",
        "tilt",
        "scale",
        "x",
        "y",
        "gaze",
        "intensity",
        "light_strength",
        "background_a",
        "background_b",
        "background_c",
        "clothing_shade",
    )
    CATEGORICAL: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "expression": EXPRESSIONS,
        "accessory": ACCESSORIES,
        "clothing_colour": CLOTHING_COLOURS,
        "clothes": CLOTHES,
        "background": BACKGROUNDS,
        "light": LIGHTS,
        "pose": POSES,
        "framing": FRAMINGS,
    }


def sample_scenes(n: int, generator: torch.Generator) -> Scenes:
    """Draws ``n`` scenes; half of the people wear no accessory, half face the camera."""
    continuous = torch.rand(n, len(Scenes.CONTINUOUS), generator=generator)
    columns = []
    odds: Mapping[str, tuple[float, ...]] = {
        "accessory": (5, 1, 1, 1, 1, 1),
        "light": (4, 1, 1, 1, 1),
        "pose": (2, 1, 1),
        "framing": (2, 1, 1),
    }
    for name, words in Scenes.CATEGORICAL.items():
        weights = torch.tensor(odds.get(name, (1.0,) * len(words)), dtype=torch.float32)
        columns.append(torch.multinomial(weights, n, replacement=True, generator=generator))
    return Scenes(continuous, torch.stack(columns, dim=1))


def spread_scenes(n: int, generator: torch.Generator) -> Scenes:
    """Draws ``n`` scenes that between them show every expression, accessory, garment, colour and background as often.

    A model that learns from few pictures forgets what none of them shows. One word of a kind in ``SHOWN`` occurs at
    most once more than another; pose, light and framing are drawn as ``sample_scenes`` draws them.
    """
    scenes = sample_scenes(n, generator)
    columns = {}
    for name in SHOWN:
        words = len(Scenes.CATEGORICAL[name])
        turns = [torch.randperm(words, generator=generator) for _ in range(-(-n // words))]
        columns[name] = torch.cat(turns)[:n][torch.randperm(n, generator=generator)]
    return scenes.replace(**columns)
