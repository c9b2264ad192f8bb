"""Section ``dit`` of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from difflora.models import DitModelSettings, NoiseSettings
from difflora.training.likeness_settings import LikenessSettings
from difflora.training.refine_settings import RefineSettings
from difflora.training.ridge import DEFAULT_STRENGTH
from difflora.training.settings import LoopSettings


class EffectSettings(BaseModel):
    """Training through the frozen base model: what a LoRA does to pictures counts, not how near its weights are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = False
    images_per_step: int = Field(4, ge=1, description="pictures a step of each person of the batch")
    face_weight: float = Field(0.0, ge=0, description="how much more an error inside the face's box counts")
    feature_weight: float = Field(0.0, ge=0, description="how much more one at eyes, nose and mouth counts, besides")
    mode_scale: float = Field(
        0.0, ge=-1, le=1.75, description="how much oftener middle timesteps of the base are drawn; 0 is evenly"
    )
    rollout_steps: int = Field(
        4, ge=1, description="DDIM steps from pure noise, at one of which the transformer is trained"
    )
    teacher_share: float = Field(
        0.25, ge=0, le=1, description="of the batch that starts from the noised teacher's latent at any timestep"
    )
    latent_weight: float = Field(0.0, ge=0, description="factor of the loss on latents, beside that on pictures")
    train_decoder: bool = Field(True, description="whether the autoencoder's decoder is trained too")
    decoder_lr_factor: float = Field(1.0, gt=0, description="what the decoder's rate is multiplied by")
    gradient_checkpointing: bool = Field(False, description="of the base: less memory, a third more time")
    compile: bool = Field(False, description="compile the base: a quarter off each step, after a minute or more")
    likeness: LikenessSettings = LikenessSettings()
    loop: LoopSettings = LoopSettings(steps=500, batch_size=8, lr=2e-4, warmup_steps=20, ema_decay=0.99)


class DitSettings(BaseModel):
    """The diffusion transformer; the defaults are the paper's where it gives them (AdamW, lr 1e-4, batch 32)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: DitModelSettings = DitModelSettings()
    noise: NoiseSettings = NoiseSettings()
    pictures: Literal["references", "images", "all"] = Field(
        "all", description="which pictures of a person may be the reference; another is drawn each time"
    )
    most_pictures: int | None = Field(
        16, ge=1, description="most pictures of a person that effect and refine learn from, the first; null for all"
    )
    condition_dropout: float = Field(0.1, ge=0, lt=1, description="how often the condition is withheld, for guidance")
    condition_noise: float = Field(
        0.0, ge=0, description="most noise on features, in parts of their own spread; each draw has its own amount"
    )
    mixup: float = Field(0.0, ge=0, le=1, description="how often a person is mixed with another of the batch")
    mixup_alpha: float = Field(1.0, gt=0, description="of Beta(alpha, alpha), which shares out the two; 1 is uniform")
    ridge: float | None = Field(
        DEFAULT_STRENGTH,
        gt=0,
        description="penalty of the linear skip's start, in parts of the features' mean square; null for the least "
        "squared error on people left out, which shrinks too far where nothing foretells most of a LoRA",
    )
    loop: LoopSettings = LoopSettings(batch_size=32, lr=1e-4, steps=5000)
    effect: EffectSettings = EffectSettings()
    refine: RefineSettings = RefineSettings()

    @property
    def through_base(self) -> bool:
        """Whether any of it goes through the base model, and so learns from pictures."""
        return self.effect.enabled or self.refine.rounds > 0

    @property
    def needs_faces(self) -> bool:
        """Whether drawn faces are compared with people's."""
        return self.refine.rounds > 0 or (self.effect.enabled and self.effect.likeness.weight > 0)

    @model_validator(mode="after")
    def _fits(self) -> DitSettings:
        if self.effect.enabled and self.effect.rollout_steps > self.noise.num_train_timesteps:
            raise ValueError(
                f"effect.rollout_steps is {self.effect.rollout_steps} of {self.noise.num_train_timesteps} timesteps"
            )
        return self
