"""How the world's PhotoMaker is built and trained."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from difflora.world.base import TRAIN_STEPS


class PhotoMakerSettings(BaseModel):
    """How PhotoMaker is built and trained; a step through the base costs about what one of the base's does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(32, ge=2, description="of the UNet's LoRA: a mark, and the numbers that it reads a person from")
    references: int = Field(2, ge=1, description="the most reference pictures of a person; each number is as likely")
    traits_steps: int = Field(600, ge=1, description="in which the tower learns to read traits")
    traits_batch_size: int = Field(128, ge=1)
    traits_lr: float = Field(1e-3, gt=0)
    room: float = Field(
        0.6, gt=0, description="how far a person reaches into the room, over the class word's deviation"
    )
    attention: float = Field(0.3, gt=0, lt=1, description="what a person's token shall get of it at first")
    words_steps: int = Field(
        400, ge=0, description="through the base, with its output under named traits as the target"
    )
    words_from: int = Field(800, ge=0, lt=TRAIN_STEPS, description="the timestep above which words count most")
    words_share: float = Field(
        0.6, ge=0, le=1, description="of timesteps drawn above it; the others are drawn anywhere"
    )
    steps: int = Field(0, ge=0, description="through the base with its own loss")
    batch_size: int = Field(32, ge=1, description="persons a step through the base")
    lr: float = Field(1e-4, gt=0)
    value_rate: float = Field(
        300.0, gt=0, description="how many times lr the values' LoRA learns at, which is read from the room"
    )
    ema_decay: float = Field(0.98, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    face_weight: float = Field(6.0, ge=0, description="how much more an error inside the face's box counts")
    feature_weight: float = Field(6.0, ge=0, description="how much more an error at eyes, nose and mouth counts")
    snr_cap: float = Field(5.0, gt=0, description="above this signal-to-noise ratio a timestep counts less")
    prompt_dropout: float = Field(0.1, ge=0, le=1, description="prompts left empty, without a person, for guidance")
    seed: int = 14
