"""Schedulers of diffusers with the settings that latents of LoRAs need, and x0 from what a model predicts."""

from __future__ import annotations

from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from difflora.errors import BadParameter
from difflora.models.settings import NoiseSettings, PredictionType

Sampler = Literal["ddim", "dpm++"]


def make_scheduler(settings: NoiseSettings, prediction_type: PredictionType, sampler: Sampler = "ddim") -> Any:
    """A scheduler for training and sampling.

    diffusers' defaults are for pictures: DDIM would clip x0 to [-1, 1], and "leading" steps would start below the
    last noise level, though sampling starts at pure noise. Latents have no range, and steps are "trailing" here.

    Args:
        settings: noise levels.
        prediction_type: what the transformer predicts.
        sampler: DDIM (the paper's, deterministic) or DPM-Solver++ (second order, for few steps).

    Raises:
        BadParameter: if there is no such sampler.
    """
    levels = {
        "num_train_timesteps": settings.num_train_timesteps,
        "beta_start": settings.beta_start,
        "beta_end": settings.beta_end,
        "beta_schedule": "linear",
        "prediction_type": prediction_type,
        "rescale_betas_zero_snr": settings.zero_terminal_snr,
        "timestep_spacing": "trailing",
    }
    match sampler:
        case "ddim":
            return DDIMScheduler(**levels, clip_sample=False, set_alpha_to_one=True)
        case "dpm++":
            return DPMSolverMultistepScheduler(
                **levels, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
            )
    raise BadParameter(f"sampler is {sampler!r}: give ddim or dpm++")


def check_scheduler(scheduler: Any) -> None:
    """Refuses a scheduler that would cut latents off.

    Raises:
        BadParameter: if it clips or thresholds x0.
    """
    for name in ("clip_sample", "thresholding"):
        if scheduler.config.get(name, False):
            raise BadParameter(f"scheduler.{name} is on, which suits pictures: latents have no range, switch it off")


def target_of(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the model is to predict, (B, Z): x0, the noise, or the velocity."""
    match scheduler.config.prediction_type:
        case "sample":
            return latents
        case "epsilon":
            return noise
    velocity: Tensor = scheduler.get_velocity(latents, noise, timesteps)
    return velocity


def to_x0(scheduler: Any, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
    """The clean latents (B, Z) that a prediction (B, Z) at noisy latents (B, Z) and timesteps (B,) stands for."""
    if scheduler.config.prediction_type == "sample":
        return prediction
    levels = scheduler.alphas_cumprod.to(noisy.device)[timesteps][:, None]  # (B, 1)
    signal, spread = levels.sqrt(), (1 - levels).sqrt()  # (B, 1) each
    is_epsilon = scheduler.config.prediction_type == "epsilon"
    x0: Tensor = (noisy - spread * prediction) / signal if is_epsilon else signal * noisy - spread * prediction
    return x0


def draw_noise(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Normal numbers drawn on the generator's own device, so that a seed gives the same ones on any other."""
    return torch.randn(shape, generator=generator, device=generator.device).to(device)
