"""A base model's pipeline run on cached prompts, each picture from the noise of its own seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

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

    The pipelines of diffusers give a UNet latents and prompts in the text encoders' type and would hand what it makes
    to the VAE as it is. So a UNet in bfloat16 is wrapped here: sampler, text encoders and VAE stay in float32.

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
    with in_its_own_type(pipeline.unet):
        images: Tensor = pipeline(
            **arguments,
            height=height,
            width=width,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type=output,
        ).images
    return images.float()


@contextmanager
def in_its_own_type(unet: nn.Module) -> Iterator[None]:
    """A context for a pipeline's call: latents and prompts come to the UNet in its type, its output back in theirs."""
    dtype = next(unet.parameters()).dtype
    given: list[torch.dtype] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        latents, *others = args
        given.append(latents.dtype)
        prompt = kwargs["encoder_hidden_states"].to(dtype)
        # Not the timesteps: there is no 999 in bfloat16.
        return (latents.to(dtype), *others), {**kwargs, "encoder_hidden_states": prompt}

    def after(_: nn.Module, args: tuple[Any, ...], output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (output[0].to(given.pop()), *output[1:])

    with unet.register_forward_pre_hook(before, with_kwargs=True), unet.register_forward_hook(after):
        yield
