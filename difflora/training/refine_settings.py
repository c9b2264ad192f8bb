"""Section ``dit.refine`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from difflora.training.drawn_settings import DrawnSettings


class RefineSettings(DrawnSettings):
    """Latents moved until the faces that their LoRAs draw are more alike, and then learnt from."""

    rounds: int = Field(0, ge=0, description="how often the transformer's latents are moved and learnt anew; 0: never")
    moves: int = Field(15, ge=1, description="steps of Adam on each training person's latent in a round")
    lr: float = Field(
        0.08, gt=0, description="Adam's, falling to a tenth by a cosine; a latent's numbers have a deviation of 1"
    )
    people_at_once: int = Field(8, ge=1)
    gradient_checkpointing: bool = Field(False, description="of the base: less memory, a third more time")
    seed: int = Field(0, ge=0, lt=2**31)
