"""Who a rendered person is: the traits that stay the same from picture to picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from difflora.world.table import Table

GENDERS = ("man", "woman")
HAIR_STYLES = ("bald", "buzz cut", "short", "side part", "curly", "bob", "long", "bun", "mohawk")
HAIR_COLOURS = ("black", "brown", "blond", "red", "grey", "white")
EYE_COLOURS = ("brown", "blue", "green", "grey")
BEARDS = ("none", "stubble", "moustache", "goatee", "full beard")
MARKS = ("none", "freckles", "mole", "scar", "birthmark")

_STYLE_ODDS = {"man": (2, 3, 4, 4, 3, 0.5, 1, 0.3, 1), "woman": (0.2, 0.5, 1, 2, 3, 4, 5, 3, 0.4)}
_HAIR_COLOUR_ODDS = (3, 4, 3, 2, 2, 1)
_BEARD_ODDS = {"man": (4, 2, 2, 2, 3), "woman": (1, 0, 0, 0, 0)}
_MARK_ODDS = (5, 2, 2, 1.2, 1.2)


class People(Table):
    """A batch of identities."""

    CONTINUOUS: ClassVar[tuple[str, ...]] = (
        "skin_tone",
        "skin_warmth",
        "face_width",
        "face_length",
        "jaw_width",
        "chin",
        "cheeks",
        "eye_size",
        "eye_spacing",
        "eye_height",
        "eye_slant",
        "eye_openness",
        "eye_shade",
        "brow_thickness",
        "brow_height",
        "brow_slant",
        "brow_length",
        "nose_length",
        "nose_width",
        "mouth_width",
        "mouth_height",
        "lip_thickness",
        "lip_redness",
        "ear_size",
        "hairline",
        "hair_volume",
        "hair_shade",
        "neck_width",
        "mark_place",
        "wrinkles",
    )
    CATEGORICAL: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "gender": GENDERS,
        "hair_style": HAIR_STYLES,
        "hair_colour": HAIR_COLOURS,
        "eye_colour": EYE_COLOURS,
        "beard": BEARDS,
        "mark": MARKS,
    }

    @property
    def gender(self) -> list[str]:
        """The class word of each person: man or woman."""
        return self.names("gender")


def draw(odds: Tensor, generator: torch.Generator) -> Tensor:
    """Draws a category a row from unnormalised odds, (N, K) -> (N,) int64."""
    return torch.multinomial(odds, 1, generator=generator).squeeze(1)


def sample_people(n: int, generator: torch.Generator) -> People:
    """Draws ``n`` identities; the same generator state gives the same people.

    Women have no beard, softer jaws and fuller lips on average; hair styles lean by gender. Everything else is
    independent, so that no trait can be read off another.
    """
    continuous = torch.rand(n, len(People.CONTINUOUS), generator=generator)
    gender = torch.randint(0, 2, (n,), generator=generator)
    woman = gender.float()
    for name, shift in {
        "jaw_width": -0.25,
        "lip_thickness": 0.25,
        "lip_redness": 0.3,
        "brow_thickness": -0.2,
        "neck_width": -0.35,
        "eye_size": 0.15,
    }.items():
        column = People.CONTINUOUS.index(name)
        continuous[:, column] = (
            continuous[:, column] * (1 - abs(shift)) + (woman * shift).clamp(min=0) + (1 - woman) * max(-shift, 0.0)
        ).clamp(0, 1)

    def by_gender(odds: Mapping[str, tuple[float, ...]]) -> Tensor:
        return torch.tensor([odds[name] for name in GENDERS], dtype=torch.float32)[gender]

    categorical = torch.stack(
        [
            gender,
            draw(by_gender(_STYLE_ODDS), generator),
            draw(torch.tensor(_HAIR_COLOUR_ODDS, dtype=torch.float32).expand(n, -1), generator),
            torch.randint(0, len(EYE_COLOURS), (n,), generator=generator),
            draw(by_gender(_BEARD_ODDS), generator),
            draw(torch.tensor(_MARK_ODDS, dtype=torch.float32).expand(n, -1), generator),
        ],
        dim=1,
    )
    return People(continuous, categorical)
