"""Which split a person belongs to: a function of the person alone, so that more people never move anyone."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class SplitSettings(BaseModel):
    """Shares of the held-out people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: float = Field(0.05, ge=0, le=1, description="share of people to choose settings on")
    test: float = Field(0.1, ge=0, le=1, description="share of people that nothing is chosen on")
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _fits(self) -> SplitSettings:
        if self.validation + self.test > 1:
            raise ValueError(f"validation {self.validation} and test {self.test} are more than everyone: give less")
        return self


def split_of(identity: str, settings: SplitSettings) -> Split:
    """The person's split, by the sha256 of seed and id: never a matter of order or of who else there is."""
    digest = hashlib.sha256(f"{settings.seed}:{identity}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < settings.test:
        return "test"
    return "validation" if place < settings.test + settings.validation else "train"
