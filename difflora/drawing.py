"""A base model's pipeline run on cached prompts, each picture from the noise of its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from difflora.prompt_cache import NEGATIVE, PromptCache


@torch.no_grad()
def draw(
    pipeline: Any,
    embed: PromptCache,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance_scale: float,
    size: tuple[int, int] | None = None,
    output: Literal["pt", "latent"] = "pt",
) -> Tensor:
    """One batch.

    Where the UNet is in bfloat16 and the VAE in float32, each gets latents in its own type: the pipelines of diffusers
    hand on whatever type a scheduler's step gives.

    Args:
        pipeline: a StableDiffusionPipeline or StableDiffusionXLPipeline.
        embed: its prompts.
        prompts: N sentences.
        seeds: N seeds.
        steps: of denoising.
        guidance_scale: of classifier-free guidance; 1 or less for none.
        size: height and width in pixels; None for those that the UNet was trained on.
        output: pictures, or the latents that the UNet left, scaled as it wants them.

    Returns:
        Pictures (N, 3, H, W) in [0, 1] or latents (N, C, h, w), float32, on the pipeline's device.
    """
    names = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds")
    given = [*embed(prompts), *(embed([NEGATIVE] * len(prompts)) if guidance_scale > 1 else ())]
    arguments = {name: value for name, value in zip(names, given, strict=False) if value is not None}
    height, width = size or (None, None)
    images: Tensor = pipeline(
        **arguments,
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        callback_on_step_end=_in_the_next_ones_type,
        callback_on_step_end_tensor_inputs=["latents"],
        output_type=output,
    ).images
    return images.float()


def _in_the_next_ones_type(pipeline: Any, step: int, _: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a pipeline calls after each step: the last one's latents go to the VAE, others to the UNet."""
    following = pipeline.unet if step + 1 < pipeline.num_timesteps else pipeline.vae
    return {"latents": tensors["latents"].to(following.dtype)}
