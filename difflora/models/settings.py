"""How the models are built: sections ``lae.model``, ``dit.model`` and ``dit.noise`` of ``params.yaml``."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PredictionType = Literal["sample", "epsilon", "v_prediction"]


class LaeModelSettings(BaseModel):
    """The LoRA autoencoder (paper, 3.2); the defaults are the paper's mode, sized for SDXL at rank 4.

    ``linear_path`` makes the better mode out of it: a linear autoencoder that starts as a PCA of the corpus, with the
    networks of the paper as a residual that starts at zero.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    linear_path: bool = Field(False, description="a trainable linear encoder and decoder beside the networks")
    networks: bool = Field(True, description="the paper's convolutional encoder and attention decoder")
    strides: tuple[int, ...] = Field(
        (4, 4, 4, 4, 6), min_length=1, description="of the encoder's levels; their product is how many numbers a place"
    )
    channels: tuple[int, ...] = Field((16, 32, 64, 128, 256), min_length=1, description="of the encoder's levels")
    latent_channels: int = Field(5, ge=1, description="numbers that a place of the latent holds")
    width: int = Field(256, ge=4, description="of the decoder's attention layers")
    heads: int = Field(4, ge=1, description="of each attention layer, in encoder and decoder")
    layers: int = Field(4, ge=1, description="attention layers of the decoder")
    mlp_width: int = Field(1024, ge=1, description="hidden width of the decoder's last MLP")
    latent_scaling: Literal["coordinate", "global"] = Field(
        "coordinate", description="latents are brought to unit variance each by its own deviation, or all by one"
    )

    @property
    def stride(self) -> int:
        """How many numbers of a flat LoRA one place of the latent stands for."""
        return math.prod(self.strides)

    @model_validator(mode="after")
    def _fits(self) -> LaeModelSettings:
        if not (self.linear_path or self.networks):
            raise ValueError("linear_path and networks are both off: nothing is left to encode with")
        if len(self.strides) != len(self.channels):
            raise ValueError(f"strides has {len(self.strides)} levels, channels {len(self.channels)}: give as many")
        if min(*self.strides, *self.channels) < 1:
            raise ValueError(f"strides {self.strides} and channels {self.channels}: give at least 1 each")
        for name, width in (("width", self.width), ("the last of channels", self.channels[-1])):
            if width % self.heads:
                raise ValueError(f"{name} is {width}, no multiple of heads = {self.heads}")
        return self


class DitModelSettings(BaseModel):
    """The diffusion transformer over latents (paper, 3.3, 3.4).

    The defaults are the recommended size. The paper's own is ``width=1454, heads=2``: 727 is prime, so that 2 is the
    only number of heads besides 1 and 727, and rows are not aligned to 16 bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_tokens: int = Field(128, ge=1, description="tokens that a latent is cut into; zeros fill up the last")
    width: int = Field(1456, ge=4)
    heads: int = Field(14, ge=1)
    layers: int = Field(16, ge=1)
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of a layer's MLP over the width")
    prediction_type: PredictionType = Field("sample", description="what the network predicts; sample is x0 (eq. 3)")
    linear_skip: bool = Field(
        False, description="adds a linear map of the condition to x0, which training starts at a ridge regression"
    )
    use_face: bool = Field(True, description="whether the face's features condition; off is an ablation (table 3)")
    use_image: bool = Field(True, description="whether the picture's features condition; off is an ablation (table 3)")

    @model_validator(mode="after")
    def _fits(self) -> DitModelSettings:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, no multiple of heads = {self.heads}")
        if self.width % 2:
            raise ValueError(f"width is {self.width}: the embedding of timesteps needs an even one")
        if self.linear_skip and self.prediction_type != "sample":
            raise ValueError(f"linear_skip predicts x0, but prediction_type is {self.prediction_type}: give sample")
        if not (self.use_face or self.use_image):
            raise ValueError("use_face and use_image are both off: nothing is left to condition on")
        return self


class NoiseSettings(BaseModel):
    """The diffusion's noise levels; the defaults are the paper's (4.1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_train_timesteps: int = Field(1000, ge=2)
    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.012, gt=0, lt=1)
    zero_terminal_snr: bool = Field(
        False, description="rescale the levels so that the last is pure noise; the paper's keeps 5% of the signal"
    )
