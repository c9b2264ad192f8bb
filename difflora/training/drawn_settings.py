"""How pictures are drawn for their faces' sake: ``dit.effect.likeness`` and ``dit.refine`` share it."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from difflora.samplers import PictureSampler


class DrawnSettings(BaseModel):
    """Pictures from pure noise, with a gradient of the last steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = Field(2, ge=1, description="pictures drawn a step of each person")
    steps: int = Field(8, ge=1, description="of the base model's sampling")
    sampler: PictureSampler = Field("dpm++", description="of the base model; few steps need DPM-Solver++ or LCM")
    through: int = Field(
        3, ge=1, description="how many of the last sampling steps the gradient flows back through; memory grows with it"
    )

    @model_validator(mode="after")
    def _through_no_more_than_all(self) -> Self:
        if self.through > self.steps:
            raise ValueError(f"through is {self.through} of {self.steps} steps")
        return self
