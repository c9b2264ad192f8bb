"""What a training step sees: the pictures of P people, and draws of noise, timesteps and pictures, shared or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor, nn

from difflora.corpus.base import FrozenBase
from difflora.corpus.latents import Encoded
from difflora.corpus.settings import DreamBoothSettings
from difflora.errors import BadParameter
from difflora.timesteps import spread_timesteps


class Told(Protocol):
    """What the UNet is told of M pictures of a person: see ``Encoded``."""

    @property
    def prompt_embeds(self) -> Tensor:
        """(M, L, W), in the UNet's type."""
        ...

    @property
    def pooled_embeds(self) -> Tensor | None:
        """(M, W2) likewise; None where the UNet takes none."""
        ...

    @property
    def told(self) -> Tensor:
        """Original size, top and left of the crop, target size, (M, 6) float32."""
        ...


@dataclass(frozen=True)
class Prompts:
    """What the UNet is told of the pictures of P people, in one tensor of each kind, person after person."""

    prompt_embeds: Tensor  # (sum of M, L, W)
    pooled_embeds: Tensor | None  # (sum of M, W2)
    time_ids: Tensor | None  # (sum of M, 6)
    counts: Tensor  # (P,) pictures of each person
    starts: Tensor  # (P,) place of each person's first

    @classmethod
    def of(cls, base: FrozenBase, people: Sequence[Told], most: int) -> Prompts:
        """Puts P people's together, the first ``most`` of each."""
        counts = torch.tensor([min(most, len(person.prompt_embeds)) for person in people], device=base.device)
        pooled = told = None
        if base.is_xl:
            told = torch.cat([person.told[:most] for person in people]).to(base.device)
            pooled = torch.cat([p.pooled_embeds[:most] for p in people if p.pooled_embeds is not None])
        prompts = torch.cat([person.prompt_embeds[:most] for person in people])
        return Prompts(prompts, pooled, told, counts, counts.cumsum(0) - counts)

    def rows(self, places: Tensor) -> Tensor:
        """Where places in [0, 1) fall in each person's list: (P, b) or, for all alike, (1, b) to (P, b) int64."""
        chosen = (places * self.counts[:, None]).long().clamp(max=self.counts[:, None] - 1)  # (P, b)
        return self.starts[:, None] + chosen


@dataclass(frozen=True)
class Batch(Prompts):
    """The pictures of P people, and what the UNet is told of them."""

    latents: Tensor  # (sum of M, C, h, w) float32
    weight: Tensor  # (sum of M, 1, h, w) how much an error counts at each place; a mean of 1 a picture
    prior: Batch | None = None  # of each person's class; people of one class have the same pictures


@dataclass(frozen=True)
class Apart:
    """People with draws of their own: the ``mine`` of ``people`` whose losses are computed, maybe elsewhere too."""

    people: int
    mine: slice


@dataclass(frozen=True)
class Drawn:
    """What the UNet is shown of P people: n pictures of each, and their noise."""

    latents: Tensor  # (P, n, C, h, w) float32, clean
    prompt_embeds: Tensor  # (P, n, L, W)
    pooled_embeds: Tensor | None  # (P, n, W2)
    time_ids: Tensor | None  # (P, n, 6)
    weight: Tensor  # (P, n, 1, h, w) how much an error counts at each place
    timesteps: Tensor  # (P, n) int64
    noise: Tensor  # (P, n, C, h, w)

    def __add__(self, other: Drawn) -> Drawn:
        """These pictures of each person, then the others."""
        return Drawn(
            torch.cat([self.latents, other.latents], 1),
            torch.cat([self.prompt_embeds, other.prompt_embeds], 1),
            _both(self.pooled_embeds, other.pooled_embeds),
            _both(self.time_ids, other.time_ids),
            torch.cat([self.weight, other.weight], 1),
            torch.cat([self.timesteps, other.timesteps], 1),
            torch.cat([self.noise, other.noise], 1),
        )


def _both(one: Tensor | None, two: Tensor | None) -> Tensor | None:
    return None if one is None or two is None else torch.cat([one, two], 1)


def gather(base: FrozenBase, people: Sequence[Encoded], settings: DreamBoothSettings) -> Batch:
    """Puts P people together.

    Raises:
        BadParameter: if their pictures differ in size, or lack those of their class for prior preservation.
    """
    most = settings.images or max(map(len, people))
    own = _gather(base, people, most, settings.face_weight, settings.feature_weight)
    if settings.prior_preservation is None:
        return own
    classes = [person.prior for person in people if person.prior is not None]
    if len(classes) < len(people):
        lacking = next(person.identity for person in people if person.prior is None)
        raise BadParameter(f"prior_preservation is on, but {lacking} has no pictures of the class: draw them first")
    different = list({id(each): each for each in classes}.values())
    shared = _gather(base, different, max(map(len, different)), 0.0, 0.0)
    if shared.latents.shape[1:] != own.latents.shape[1:]:
        raise BadParameter("prior_preservation: pictures of the class differ in size from the people's; draw others")
    place = {id(each): place for place, each in enumerate(different)}
    rows = torch.tensor([place[id(each)] for each in classes], device=base.device)
    return replace(own, prior=replace(shared, counts=shared.counts[rows], starts=shared.starts[rows]))


def _gather(base: FrozenBase, people: Sequence[Encoded], most: int, face_weight: float, feature_weight: float) -> Batch:
    one_size(person.latents.shape[1:] for person in people)
    return Batch(
        **vars(Prompts.of(base, people, most)),
        latents=torch.cat([person.latents[:most] for person in people]),
        weight=torch.cat([_place_weights(person, most, face_weight, feature_weight) for person in people]),
    )


def one_size(sizes: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The size that all pictures have.

    Raises:
        BadParameter: if they differ.
    """
    different = sorted({tuple(size) for size in sizes})
    if len(different) != 1:
        raise BadParameter(
            f"pictures of different sizes ({different}): train people of one size together, or set a resolution"
        )
    return different[0]


def _place_weights(person: Encoded, most: int, face_weight: float, feature_weight: float) -> Tensor:
    """(n, 1, h, w): 1, more in the face and at its features, brought to a mean of 1 a picture."""
    weight = 1 + face_weight * person.covered[:most]
    if feature_weight:
        if person.featured is None:
            raise BadParameter(
                f"feature_weight is {feature_weight:g}, but nobody looked for the features of {person.identity}: "
                "remove data/people and make the people again"
            )
        weight = weight + feature_weight * person.featured[:most]
    return (weight / weight.mean((1, 2), keepdim=True))[:, None]


def min_snr_weights(scheduler: DDPMScheduler, timesteps: Tensor, gamma: float) -> Tensor:
    """Weights of squared errors by the signal that is left (arXiv 2303.09556), as in diffusers' scripts.

    Args:
        scheduler: the noise levels and the kind of prediction.
        timesteps: (n,) int64.
        gamma: signal-to-noise ratio beyond which a step counts less.

    Returns:
        (n,) float32: min(SNR, gamma) / SNR, for velocities one more. Where no signal is left (zero terminal SNR) the
        ratio is 1, its limit.
    """
    weights: Tensor = (gamma / compute_snr(scheduler, timesteps)).clamp(max=1.0)
    return weights + 1 if scheduler.config.prediction_type == "v_prediction" else weights


def denoising_losses(
    base: FrozenBase,
    unet: nn.Module,
    data: Batch,
    settings: DreamBoothSettings,
    generator: torch.Generator,
    *,
    apart: Apart | None = None,
) -> Tensor:
    """Each person's loss on one batch of draws.

    It is the mean squared error, weighted by place and, where ``snr_gamma`` is set, by timestep. With prior
    preservation the mean squared error on as many pictures of the person's class is added, times its factor alone.

    Args:
        base: gives the noise levels and the kind of prediction.
        unet: the base's UNet under the people's LoRAs.
        data: P people.
        settings: how many pictures a step, and which loss.
        generator: draws pictures, timesteps and noise, on the CPU, whatever the device.
        apart: who these people are where each has draws of their own, as what learns from all of them together wants;
            None where the draws are the same for all, as each one's training alone wants.

    Returns:
        (P,) float32.
    """
    people, size, prior = len(data.counts), settings.batch_size, settings.prior_preservation
    drawn = _draw(base, data, settings, generator, apart)
    if data.prior is not None:
        drawn += _draw(base, data.prior, settings, generator, apart)
    errors = _errors(base, unet, drawn).unflatten(0, (people, -1)) * drawn.weight  # (P, n, C, h, w)
    own = errors[:, :size]
    if settings.snr_gamma is not None:
        weights = min_snr_weights(base.scheduler, drawn.timesteps[:, :size].flatten(), settings.snr_gamma)  # (P * b,)
        own = own * weights.view(people, size, 1, 1, 1)
    losses: Tensor = own.reshape(people, -1).mean(1)  # (P,)
    if data.prior is not None and prior is not None:
        losses = losses + prior.weight * errors[:, size:].reshape(people, -1).mean(1)
    return losses


def _draw(
    base: FrozenBase, data: Batch, settings: DreamBoothSettings, generator: torch.Generator, apart: Apart | None
) -> Drawn:
    """Draws ``batch_size`` pictures of each person, and their timesteps and noise."""
    people, count, steps = len(data.counts), settings.batch_size, base.scheduler.config.num_train_timesteps
    sets, mine = (1, slice(0, 1)) if apart is None else (apart.people, apart.mine)
    places = torch.rand(sets, count, generator=generator)[mine]
    spread = spread_timesteps(sets * count, steps, generator, settings.mode_scale)
    timesteps = spread.view(count, sets).T[mine]  # each set of draws has some of all parts of the schedule
    noise = torch.randn(sets, count, *data.latents.shape[1:], generator=generator)[mine]
    rows = data.rows(places.to(base.device))  # (P, n)
    pooled = None if data.pooled_embeds is None else data.pooled_embeds[rows]
    told = None if data.time_ids is None else data.time_ids[rows]
    return Drawn(
        data.latents[rows],
        data.prompt_embeds[rows],
        pooled,
        told,
        data.weight[rows],
        timesteps.to(base.device).expand(people, -1),
        noise.to(base.device).expand(people, -1, -1, -1, -1),
    )


def _errors(base: FrozenBase, unet: nn.Module, drawn: Drawn) -> Tensor:
    """Squared errors, (P * n, C, h, w)."""
    pooled = None if drawn.pooled_embeds is None else drawn.pooled_embeds.flatten(0, 1)
    told = None if drawn.time_ids is None else drawn.time_ids.flatten(0, 1)
    timesteps, noise = drawn.timesteps.flatten(0, 1), drawn.noise.flatten(0, 1)  # (P * n,), (P * n, C, h, w)
    latents, prompt = drawn.latents.flatten(0, 1), drawn.prompt_embeds.flatten(0, 1)
    return squared_errors(base, unet, latents, timesteps, noise, prompt, pooled, told)


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
    output = predict(unet, noisy, timesteps, prompt, pooled, time_ids)
    return F.mse_loss(output, target, reduction="none")


def predict(
    unet: nn.Module, noisy: Tensor, timesteps: Tensor, prompt: Tensor, pooled: Tensor | None, time_ids: Tensor | None
) -> Tensor:
    """What a UNet makes of noisy latents (N, C, h, w), computed in its own type: (N, C, h, w) float32.

    Args:
        unet: the base's UNet, under LoRAs or not.
        noisy: (N, C, h, w), scaled as the UNet wants them.
        timesteps: (N,) int64, or one for all.
        prompt: (N, L, W) embeddings, in the UNet's type.
        pooled: (N, W2) likewise; None where the UNet takes none.
        time_ids: (N, 6) with them.
    """
    conditions = None if pooled is None else {"text_embeds": pooled, "time_ids": time_ids}
    noisy = noisy.to(prompt.dtype).contiguous(memory_format=torch.channels_last)
    output: Tensor = unet(noisy, timesteps, encoder_hidden_states=prompt, added_cond_kwargs=conditions).sample
    return output.float()
