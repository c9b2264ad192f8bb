"""How a model is trained: steps, rates, averaging, checkpoints; the same for all trainings."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LoopSettings(BaseModel):
    """AdamW over a number of steps, with an exponential moving average of the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(1000, ge=1)
    batch_size: int = Field(32, ge=1, description="people a step, over all processes")
    lr: float = Field(1e-4, gt=0, description="AdamW's peak rate")
    warmup_steps: int = Field(100, ge=0, description="steps in which the rate rises linearly to its peak")
    schedule: Literal["constant", "cosine"] = "cosine"
    final_lr: float = Field(0.05, ge=0, le=1, description="the rate at the end over the peak; not of 'constant'")
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = Field(
        1e-8, gt=0, description="AdamW's; near a gradient's own size, numbers that hardly matter hardly move"
    )
    weight_decay: float = Field(0.01, ge=0, description="of matrices, not of biases and the like")
    max_grad_norm: float = Field(1.0, gt=0)
    ema_decay: float | None = Field(0.999, ge=0, lt=1, description="of the average that is kept; None for none")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 is mixed: weights stay fp32")
    seed: int = Field(0, ge=0, lt=2**31)
    log_every: int = Field(50, ge=1, description="steps between reads of the loss, which wait for the device")
    save_every: int = Field(500, ge=1, description="steps between checkpoints; a multiple of log_every")

    @model_validator(mode="after")
    def _fits(self) -> LoopSettings:
        if self.save_every % self.log_every:
            raise ValueError(f"save_every is {self.save_every}, no multiple of log_every = {self.log_every}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}: give two from 0 to below 1")
        return self

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.lr
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.lr * (self.final_lr + (1 - self.final_lr) * (1 + math.cos(math.pi * min(1.0, done))) / 2)
