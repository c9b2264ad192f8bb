"""Latents from noise: the loop over a scheduler's steps, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.errors import BadParameter
from difflora.models.dit import LoraTransformer
from difflora.models.noise import check_scheduler, draw_noise


def mean_feature(features: Tensor) -> Tensor:
    """The direction (1, K) of the mean of unit vectors (N, K): several references of one person."""
    return F.normalize(features.mean(0, keepdim=True), dim=-1)


def check_steps(scheduler: Any, num_inference_steps: int) -> None:
    """Looks over a number of steps.

    Raises:
        BadParameter: if it is not from 1 to the number of steps of training.
    """
    most = int(scheduler.config.num_train_timesteps)
    if not 1 <= num_inference_steps <= most:
        raise BadParameter(f"num_inference_steps is {num_inference_steps}: give 1 to {most}")


def guided(
    transformer: LoraTransformer,
    latents: Tensor,
    timesteps: Tensor,
    face: Tensor,
    image: Tensor,
    guidance_scale: float,
) -> Tensor:
    """The transformer's prediction (B, Z) under classifier-free guidance; a scale of 1 is without, and at half cost.

    Args:
        transformer: the model.
        latents: (B, Z) noisy.
        timesteps: (B,).
        face: (B, Df).
        image: (B, Di).
        guidance_scale: s of ``null + s (conditional - null)``.
    """
    if guidance_scale == 1.0:
        prediction: Tensor = transformer(latents, timesteps, face, image)  # (B, Z)
        return prediction
    drop = torch.arange(2 * len(latents), device=latents.device) >= len(latents)  # (2 B,)
    both = transformer(latents.repeat(2, 1), timesteps.repeat(2), face.repeat(2, 1), image.repeat(2, 1), drop)
    conditional, null = both.chunk(2)  # (B, Z) each
    return null + guidance_scale * (conditional - null)  # type: ignore[no-any-return]


@torch.no_grad()
def sample_latents(
    transformer: LoraTransformer,
    scheduler: Any,
    face: Tensor,
    image: Tensor,
    *,
    num_inference_steps: int = 100,
    guidance_scale: float = 1.0,
    generator: torch.Generator | Sequence[torch.Generator],
    on_step: Callable[[], object] | None = None,
) -> Tensor:
    """Draws a latent for each of P people.

    Args:
        transformer: the model.
        scheduler: one of diffusers, as ``make_scheduler`` gives it; its steps are set here.
        face: (P, Df) unit vectors.
        image: (P, Di) unit vectors.
        num_inference_steps: 1 to the number of steps of training.
        guidance_scale: 1 for none.
        generator: draws the noise; with one for each person, a latent depends on nobody else.
        on_step: called after each step.

    Returns:
        (P, Z) float32, on the transformer's device.

    Raises:
        BadParameter: if a number is out of range, or the scheduler would clip latents.
    """
    check_steps(scheduler, num_inference_steps)
    if not guidance_scale >= 0:
        raise BadParameter(f"guidance_scale is {guidance_scale}: give 0 or more, 1 for none")
    check_scheduler(scheduler)
    device, size = face.device, int(transformer.config.latent_size)
    if isinstance(generator, torch.Generator):
        latents = draw_noise((len(face), size), generator, device)  # (P, Z)
    elif len(generator) == len(face):
        latents = torch.cat([draw_noise((1, size), one, device) for one in generator])  # (P, Z)
    else:
        raise BadParameter(f"{len(generator)} generators for {len(face)} people: give one, or one for each")
    scheduler.set_timesteps(num_inference_steps)
    for timestep in scheduler.timesteps.tolist():
        timesteps = torch.full((len(face),), timestep, device=device)  # (P,)
        prediction = guided(transformer, latents, timesteps, face, image, guidance_scale)  # (P, Z)
        latents = scheduler.step(prediction, timestep, latents).prev_sample  # (P, Z)
        if on_step is not None:
            on_step()
    drawn: Tensor = latents
    return drawn
