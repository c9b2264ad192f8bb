"""Latents from noise: the loop over a scheduler's steps, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.errors import BadParameter
from difflora.models.dit import LoraTransformer
from difflora.models.noise import check_scheduler, draw_noise, to_x0

CALLBACK_TENSORS = ("latents", "pred_original_sample")
"""What a callback may see of a step: x_t after it, and x0 as the model predicted it there, (P, Z) each."""

OnStepEnd = Callable[[int, int, dict[str, Tensor]], Mapping[str, Tensor]]
"""Told a step's number from 0, its timestep and tensors; gives them back, ``latents`` changed or not."""


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
    on_step_end: OnStepEnd | None = None,
    on_step_end_tensors: Sequence[str] = ("latents",),
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
        on_step_end: told each step's tensors; the ``latents`` that it gives back take the place of the sampler's.
        on_step_end_tensors: which of ``CALLBACK_TENSORS`` it is told.

    Returns:
        (P, Z) float32, on the transformer's device.

    Raises:
        BadParameter: if a number is out of range, the scheduler would clip latents, or there is no such tensor.
    """
    check_steps(scheduler, num_inference_steps)
    if unknown := [name for name in on_step_end_tensors if name not in CALLBACK_TENSORS]:
        raise BadParameter(f"a callback is told nothing called {unknown[0]!r}: there are {', '.join(CALLBACK_TENSORS)}")
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
    for number, timestep in enumerate(scheduler.timesteps.tolist()):
        timesteps = torch.full((len(face),), timestep, device=device)  # (P,)
        noisy = latents
        prediction = guided(transformer, noisy, timesteps, face, image, guidance_scale)  # (P, Z)
        latents = scheduler.step(prediction, timestep, noisy).prev_sample  # (P, Z)
        if on_step_end is not None:
            told = {"latents": latents}
            if "pred_original_sample" in on_step_end_tensors:
                told["pred_original_sample"] = to_x0(scheduler, prediction, noisy, timesteps)  # (P, Z)
            given = on_step_end(number, timestep, {name: told[name] for name in on_step_end_tensors})
            latents = given.get("latents", latents)
        if on_step is not None:
            on_step()
    drawn: Tensor = latents
    return drawn
