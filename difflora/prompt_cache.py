"""Embeddings of prompts: a base model's text encoders run once a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

NEGATIVE = ""
"""The prompt of guidance's unconditional half, where no other is given."""

_AT_ONCE = 64


class PromptCache:
    """Embeds prompts by the text encoders of a Stable Diffusion pipeline, and keeps what it made on the device.

    Args:
        pipeline: a StableDiffusionPipeline or StableDiffusionXLPipeline, on one device.

    Attributes:
        is_xl: whether the UNet wants pooled embeddings.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._known: dict[str, tuple[Tensor, Tensor | None]] = {}
        self.is_xl = bool(pipeline.unet.config.addition_embed_type == "text_time")

    def __len__(self) -> int:
        return len(self._known)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Embeddings in the UNet's dtype.

        Args:
            prompts: B sentences; the empty one is zeros where the pipeline's configuration says so, as in SDXL.

        Returns:
            Prompt embeddings (B, L, W) and, for SDXL, pooled embeddings (B, P).
        """
        missing = [one for one in dict.fromkeys(prompts) if one not in self._known]
        for start in range(0, len(missing), _AT_ONCE):
            self._embed(missing[start : start + _AT_ONCE])
        found = [self._known[one] for one in prompts]
        pooled = torch.cat([one for _, one in found if one is not None]) if self.is_xl else None
        return torch.cat([one for one, _ in found]), pooled

    def _embed(self, prompts: Sequence[str]) -> None:
        pipeline = self._pipeline
        zeros = bool(pipeline.config.get("force_zeros_for_empty_prompt", False))
        weight = next(pipeline.unet.parameters())
        output = pipeline.encode_prompt(
            list(prompts), device=weight.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        for place, prompt in enumerate(prompts):
            keep = 0.0 if zeros and prompt == NEGATIVE else 1.0
            pooled = output[2][place : place + 1].to(weight.dtype) * keep if self.is_xl else None
            self._known[prompt] = output[0][place : place + 1].to(weight.dtype) * keep, pooled
