"""What a training step sees: the pictures of P people, and draws of noise, timesteps and pictures that all share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflora.corpus.base import FrozenBase
from difflora.corpus.latents import Encoded
from difflora.corpus.settings import DreamBoothSettings
from difflora.errors import BadParameter


@dataclass(frozen=True)
class Batch:
    """The pictures of P people in one tensor of each kind, person after person."""

    latents: Tensor  # (sum of M, C, h, w) float32
    prompt_embeds: Tensor  # (sum of M, L, W)
    pooled_embeds: Tensor | None  # (sum of M, W2)
    counts: Tensor  # (P,) pictures of each person
    starts: Tensor  # (P,) place of each person's first
    time_ids: Tensor | None  # (P * b, 6)
    weight: Tensor  # (sum of M, 1, h, w) how much an error counts at each place; a mean of 1 a picture

    def rows(self, places: Tensor) -> Tensor:
        """Where places in [0, 1) fall in each person's list: (b,) to (P * b,) int64, person after person."""
        chosen = (places * self.counts[:, None]).long().clamp(max=self.counts[:, None] - 1)  # (P, b)
        return (self.starts[:, None] + chosen).flatten()


def gather(base: FrozenBase, people: Sequence[Encoded], settings: DreamBoothSettings) -> Batch:
    """Puts P people together.

    Raises:
        BadParameter: if their pictures differ in size.
    """
    shapes = {person.latents.shape[1:] for person in people}
    if len(shapes) != 1:
        raise BadParameter(
            f"pictures of different sizes ({sorted(map(tuple, shapes))}): train people of one size together"
        )
    most = settings.images or max(map(len, people))
    counts = torch.tensor([min(most, len(person)) for person in people])
    device, pooled, time_ids = base.device, None, None
    if base.is_xl:
        # Micro-conditioning of whole pictures: original size, crop corner, target size.
        sizes = torch.tensor(
            [[*person.size, 0, 0, *person.size] for person in people], device=device, dtype=torch.float32
        )
        time_ids = sizes.repeat_interleave(settings.batch_size, dim=0)  # (P * b, 6)
        pooled = torch.cat([p.pooled_embeds[:most] for p in people if p.pooled_embeds is not None])
    return Batch(
        torch.cat([person.latents[:most] for person in people]),
        torch.cat([person.prompt_embeds[:most] for person in people]),
        pooled,
        counts.to(device),
        (counts.cumsum(0) - counts).to(device),
        time_ids,
        _place_weights(torch.cat([person.covered[:most] for person in people]), settings.face_weight),
    )


def _place_weights(covered: Tensor, face_weight: float) -> Tensor:
    """From (N, h, w) shares to (N, 1, h, w) weights: 1, more in the face, brought to a mean of 1 a picture."""
    weight = 1 + face_weight * covered
    return (weight / weight.mean((1, 2), keepdim=True))[:, None]


def spread_timesteps(count: int, steps: int, generator: torch.Generator, mode_scale: float = 0.0) -> Tensor:
    """One random timestep in each of ``count`` parts of the schedule that are equally likely, (count,) int64.

    ``mode_scale`` is s of the mode sampling of arXiv 2403.03206, section 3.1: 0 draws evenly, 0.8 draws the middle 3.3
    times as often as the ends.
    """
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    places = places - mode_scale * ((torch.pi / 2 * places).sin().square() - places)
    return (places * steps).long().clamp(0, steps - 1)


def denoising_losses(
    base: FrozenBase, unet: nn.Module, data: Batch, settings: DreamBoothSettings, generator: torch.Generator
) -> Tensor:
    """Each person's mean squared error, weighted by place, on one batch of draws, which are the same for all people.

    Args:
        base: gives the noise levels and the kind of prediction.
        unet: the base's UNet under the people's LoRAs.
        data: P people.
        settings: how many pictures a step.
        generator: draws pictures, timesteps and noise, on the CPU, whatever the device.

    Returns:
        (P,) float32.
    """
    people, scheduler, device = len(data.counts), base.scheduler, base.device
    places = torch.rand(settings.batch_size, generator=generator)  # (b,)
    steps = scheduler.config.num_train_timesteps
    timesteps = spread_timesteps(settings.batch_size, steps, generator, settings.mode_scale)  # (b,)
    noise = torch.randn(settings.batch_size, *data.latents.shape[1:], generator=generator)  # (b, C, h, w)
    rows = data.rows(places.to(device))  # (P * b,)
    latents = data.latents[rows]  # (P * b, C, h, w)
    pooled = None if data.pooled_embeds is None else data.pooled_embeds[rows]
    timesteps = timesteps.to(device).repeat(people)  # (P * b,)
    noise = noise.to(device).repeat(people, 1, 1, 1)  # (P * b, C, h, w)
    errors = squared_errors(base, unet, latents, timesteps, noise, data.prompt_embeds[rows], pooled, data.time_ids)
    return (errors * data.weight[rows]).reshape(people, -1).mean(1)  # (P,)


def squared_errors(
    base: FrozenBase,
    unet: nn.Module,
    latents: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    prompt: Tensor,
    pooled: Tensor | None,
    time_ids: Tensor | None,
) -> Tensor:
    """How far a UNet is from what it is to predict at N noised latents.

    Args:
        base: gives the noise levels and the kind of prediction.
        unet: the base's UNet, under LoRAs or not.
        latents: (N, C, h, w) float32, clean.
        timesteps: (N,) int64.
        noise: (N, C, h, w).
        prompt: (N, L, W) embeddings, in the UNet's type.
        pooled: (N, W2) likewise; None where the UNet takes none.
        time_ids: (N, 6) with them.

    Returns:
        (N, C, h, w) float32.
    """
    scheduler = base.scheduler
    noisy = scheduler.add_noise(latents, noise, timesteps)  # (N, C, h, w)
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        target = scheduler.get_velocity(latents, noise, timesteps)  # (N, C, h, w)
    else:
        target = noise if kind == "epsilon" else latents
    conditions = None if pooled is None else {"text_embeds": pooled, "time_ids": time_ids}
    noisy = noisy.to(prompt.dtype).contiguous(memory_format=torch.channels_last)
    output = unet(noisy, timesteps, encoder_hidden_states=prompt, added_cond_kwargs=conditions).sample
    return F.mse_loss(output.float(), target, reduction="none")
