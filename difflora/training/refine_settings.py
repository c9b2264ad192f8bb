"""Section ``dit.refine`` of ``params.yaml``."""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field, model_validator

from difflora.prompts import check_prompts
from difflora.training.drawn_settings import DrawnSettings

_LAST_RATE = 0.1


class RefineSettings(DrawnSettings):
    """Latents moved until the faces that their LoRAs draw are more alike, and then learnt from."""

    rounds: int = Field(0, ge=0, description="how often people's latents are moved, and learnt; 0: never")
    moves: int = Field(1, ge=1, description="steps of each training person's latent in a round")
    lr: float = Field(
        0.3,
        gt=0,
        description="length of a step, as the root mean square over a latent's numbers, which have a deviation of 1; "
        "it falls to a tenth by a cosine over all rounds",
    )
    prompts: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="what is drawn; {person} becomes 'a man' or 'a woman'. What hides a face had better not be asked "
        "for: a face is more alike without it, and LoRAs learn to leave it out. null: captions of people's pictures",
    )
    ridge: float = Field(
        5.0,
        gt=0,
        description="penalty of what a round adds to the linear skip, in parts of the features' mean square: a move is "
        "mostly noise of a person's own, which no other person's foretells",
    )
    people_at_once: int = Field(8, ge=1)
    gradient_checkpointing: bool = Field(False, description="of the base: less memory, a third more time")
    seed: int = Field(0, ge=0, lt=2**31)

    def rates(self, place: int) -> list[float]:
        """Lengths of the steps in a round, the first of which is 0."""
        steps = range(place * self.moves, (place + 1) * self.moves)
        turns = [math.pi * step / (self.rounds * self.moves) for step in steps]
        return [self.lr * (_LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(turn)) / 2) for turn in turns]

    @model_validator(mode="after")
    def _prompts_have_a_person(self) -> Self:
        check_prompts(self.prompts or ())
        return self
