"""Section ``dit.effect.likeness`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from difflora.samplers import PictureSampler


class LikenessSettings(BaseModel):
    """What drawn pictures' faces count in the training through the base model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(
        0.0, ge=0, description="factor of 1 - cosine of drawn faces to the person's, beside the denoising loss; 0: off"
    )
    pictures: int = Field(2, ge=1, description="pictures drawn a step of each person of the batch")
    steps: int = Field(8, ge=1, description="of the base model's sampling")
    sampler: PictureSampler = Field("dpm++", description="of the base model; few steps need DPM-Solver++ or LCM")
    through: int = Field(
        3, ge=1, description="how many of the last sampling steps the gradient flows back through; memory grows with it"
    )

    @model_validator(mode="after")
    def _fits(self) -> LikenessSettings:
        if self.weight and self.through > self.steps:
            raise ValueError(f"through is {self.through} of {self.steps} steps")
        return self
