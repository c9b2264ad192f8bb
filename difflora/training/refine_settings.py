"""Section ``dit.refine`` of ``params.yaml``."""

from __future__ import annotations

import math

from pydantic import Field

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
    people_at_once: int = Field(8, ge=1)
    gradient_checkpointing: bool = Field(False, description="of the base: less memory, a third more time")
    seed: int = Field(0, ge=0, lt=2**31)

    def rates(self, place: int) -> list[float]:
        """Lengths of the steps in a round, the first of which is 0."""
        steps = range(place * self.moves, (place + 1) * self.moves)
        turns = [math.pi * step / (self.rounds * self.moves) for step in steps]
        return [self.lr * (_LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(turn)) / 2) for turn in turns]
