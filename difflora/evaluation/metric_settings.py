"""Section ``evaluate.metrics``: encoders that measure pictures, beside likeness and agreement (paper, 4.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Features = Literal["dino", "clip", "inception"]


class MetricSettings(BaseModel):
    """Each measure is left out where its encoder is null, and the report says so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dino: Path | None = Field(None, description="folder of a ViT, DINO's or DINOv2's: for dino and diversity")
    clip: Path | None = Field(None, description="folder of a whole CLIP: for clip_i and clip_t")
    reward: str | None = Field(
        None, description="module:Class that scores pictures by their prompts as people would: for image_reward"
    )
    reward_options: dict[str, Any] = {}
    fid: Features | None = Field(None, description="whose features fid and kid compare")
    inception: Path | None = Field(None, description="ONNX file of an Inception, pictures in [0, 1] to features")
    reference: Path | None = Field(
        None, description="folder of pictures that fid and kid compare with; None for the training people's own"
    )
    reference_pictures: int = Field(1024, ge=2, description="pictures of it at most, spread evenly")
    draws: int = Field(100, ge=20, description="draws of people for the intervals of fid and kid")
    batch_size: int = Field(64, ge=1, description="pictures that an encoder takes at a time")

    @model_validator(mode="after")
    def _fits(self) -> MetricSettings:
        if self.fid is not None and getattr(self, self.fid) is None:
            raise ValueError(f"fid is {self.fid!r}, but {self.fid} is null: give its path, or another fid")
        if self.fid is None and (self.reference is not None or self.inception is not None):
            raise ValueError("fid is null, but reference or inception is given: say whose features fid compares")
        if self.reward is None and self.reward_options:
            raise ValueError("reward_options are given, but reward is null: name the class")
        return self
