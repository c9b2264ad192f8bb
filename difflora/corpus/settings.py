"""How a person's LoRA is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from difflora.errors import BadFile, BadParameter
from difflora.files import sha256_file
from difflora.folders import read_json


class PriorPreservation(BaseModel):
    """Pictures of the class, drawn by the base itself and learnt beside each person's (DreamBooth, 2208.12242)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = Field(100, ge=1, description="of each class prompt, drawn once and shared by all people")
    weight: float = Field(1.0, gt=0, description="of their loss, which is added to the person's own")
    prompt: str = Field("a photo of {person}", min_length=1, description="{person} becomes a man, a woman...")
    steps: int = Field(50, ge=1, le=1000, description="denoising steps of each picture")
    guidance_scale: float = Field(5.0, ge=0, description="of drawing them; 1 or less for none")


class DreamBoothSettings(BaseModel):
    """LoRA-DreamBooth; the defaults are those of diffusers' SDXL script.

    The embedded world's small base wants a far higher rate and fewer steps (its preset says which).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[str, ...] = Field(("attention",), min_length=1, description="groups or ends of module names")
    rank: int = Field(4, ge=1, le=1024)
    alpha: float | None = Field(None, gt=0, description="the LoRA counts alpha / rank times; None for the rank")
    steps: int = Field(500, ge=1)
    batch_size: int = Field(4, ge=1, description="pictures a step of each person")
    lr: float = Field(1e-4, gt=0, description="AdamW's peak rate")
    warmup_steps: int = Field(0, ge=0, description="steps in which the rate rises linearly to its peak")
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final_lr: float = Field(0.0, ge=0, le=1, description="the rate at the end over the peak; not of 'constant'")
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(
        1e-8, gt=0, description="AdamW's; near a gradient's own size, numbers that hardly matter hardly move"
    )
    weight_decay: float = Field(1e-2, ge=0)
    max_grad_norm: float = Field(1.0, gt=0, description="of each person's own gradient")
    seed: int = Field(0, ge=0, lt=2**63, description="of the start, noise, steps and pictures; the same for all people")
    shared_start: bool = Field(
        True, description="everyone starts from the same A; off is an ablation: a corpus of such LoRAs is hard to learn"
    )
    start: Path | None = Field(
        None,
        description="LoRA file whose A all start from, as `difflora corpus start` learns one; None for a random A",
    )
    freeze_a: bool = Field(
        False, description="A stays as it starts and B alone is trained (LoRA-FA, 2308.03303): people differ in B alone"
    )
    face_weight: float = Field(
        0.0, ge=0, description="how much more an error inside the face's box counts; it does not move the minimum"
    )
    feature_weight: float = Field(
        0.0, ge=0, description="how much more an error at eyes, nose and mouth counts, besides; nor does this move it"
    )
    mode_scale: float = Field(
        0.0, ge=-1, le=1.75, description="how much oftener middle timesteps are drawn; 0 is evenly"
    )
    images: int | None = Field(None, ge=1, description="the most pictures of a person, the first ones; None for all")
    resolution: int | None = Field(
        None,
        ge=16,
        multiple_of=8,
        description="pictures are resized to it by their shorter side and cropped to squares; None for as they are",
    )
    crop: Literal["center", "random"] = Field("center", description="where, with a resolution; SDXL is told")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the frozen base; a LoRA and AdamW stay fp32")
    gradient_checkpointing: bool = Field(
        False, description="activations are computed again in the backward pass: a third more time, far less memory"
    )
    snr_gamma: float | None = Field(
        None, gt=0, description="min-SNR weighting of the loss (2303.09556), 5 in the paper; None for none"
    )
    prior_preservation: PriorPreservation | None = Field(
        None, description="None for off; doubles a step's pictures, since each batch has as many of the class"
    )

    @property
    def scale(self) -> float:
        """What a LoRA's product B A is multiplied by."""
        return (self.alpha or self.rank) / self.rank

    @model_validator(mode="after")
    def _fits(self) -> DreamBoothSettings:
        if self.warmup_steps >= self.steps and self.warmup_steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, but there are {self.steps} steps: give fewer")
        if self.start is not None and not self.shared_start:
            raise ValueError("shared_start is off, but start names what all start from: leave one of them out")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}: give two from 0 to below 1")
        return self

    @property
    def deciding(self) -> dict[str, Any]:
        """Plain values that decide what a LoRA is beyond rounding; of the start its sha256, wherever the file lies.

        Raises:
            BadFile: if the start is no file.
        """
        values = self.model_dump(mode="json", exclude={"gradient_checkpointing"})
        if self.start is None:
            return values
        if not self.start.is_file():
            raise BadFile(f"{self.start}: dreambooth.start names no file; learn one with `difflora corpus start`")
        return values | {"start": sha256_file(self.start)}

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.lr
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        left = 1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.lr * (self.final_lr + (1 - self.final_lr) * left)


def read_settings(path: Path | None, options: Mapping[str, Any]) -> DreamBoothSettings:
    """Settings from a JSON file, with options that win over it.

    Args:
        path: a JSON object; None for the defaults.
        options: values by name.

    Raises:
        BadFile: if the file is missing or no JSON object.
        BadParameter: for a key or value that is not allowed; it is named.
    """
    values = {**(read_json(path) if path else {}), **options}
    try:
        return DreamBoothSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "settings"
        where = f"{path}: " if path else ""
        raise BadParameter(
            f"{where}{key} is {first['input']!r}: {first['msg'].removeprefix('Value error, ')}"
        ) from error
