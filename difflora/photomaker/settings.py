"""How PhotoMaker draws."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from difflora.samplers import PictureSampler


class DrawingSettings(BaseModel):
    """The defaults are those of PhotoMaker's authors: 50 steps, guidance 5, the person from the tenth step on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(50, ge=1, le=1000, description="denoising steps; 4 to 8 with an LCM LoRA and the lcm sampler")
    guidance_scale: float = Field(5.0, ge=0, description="of classifier-free guidance; 1 or less for none")
    sampler: PictureSampler = Field("euler", description="the base model's own, Euler, DDIM, DPM-Solver++ or LCM")
    start_merge_step: int | None = Field(
        None, ge=0, description="steps that see the text alone before the person comes in; None for a fifth of them"
    )
    negative_prompt: str = Field("", description="what guidance leads away from")
    size: int | None = Field(None, ge=8, multiple_of=8, description="pixels a side; None for the base model's own")
    batch_size: int = Field(4, ge=1, description="pictures at a time")

    @model_validator(mode="after")
    def _fits(self) -> DrawingSettings:
        if self.start_merge_step is not None and self.start_merge_step > self.steps:
            raise ValueError(
                f"start_merge_step is {self.start_merge_step} of {self.steps} steps: give at most {self.steps}, which "
                "never merges"
            )
        return self

    @property
    def merge_from(self) -> int:
        """The first step, counted from 0, that sees the person."""
        return self.steps // 5 if self.start_merge_step is None else self.start_merge_step
