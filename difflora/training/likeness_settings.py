"""Section ``dit.effect.likeness`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from difflora.training.drawn_settings import DrawnSettings


class LikenessSettings(DrawnSettings):
    """What drawn pictures' faces count in the training through the base model."""

    weight: float = Field(
        0.0, ge=0, description="factor of 1 - cosine of drawn faces to the person's, beside the denoising loss; 0: off"
    )
