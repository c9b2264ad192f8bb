"""What a step shows the transformer: another picture of each person, noise on it, people mixed, conditions withheld."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.models import LoraTransformer
from difflora.training.batches import Batch
from difflora.training.dit_settings import DitSettings
from difflora.training.features import ConditionFeatures


@dataclass(frozen=True)
class Shown:
    """A batch's conditions and targets.

    Attributes:
        latents: (b, Z) clean latents.
        face: (b, Df) unit vectors.
        image: (b, Di) unit vectors.
        drop: (b,) bool, whose condition is withheld.
    """

    latents: Tensor
    face: Tensor
    image: Tensor
    drop: Tensor


def show(
    batch: Batch,
    latents: Tensor,
    features: ConditionFeatures,
    transformer: LoraTransformer,
    settings: DitSettings,
    *,
    mix: bool = True,
) -> Shown:
    """Draws a batch's conditions.

    Args:
        batch: whom, and the random numbers.
        latents: (N, Z) of all people.
        features: of all people, in the same order, on the same device.
        transformer: gives the spread of features.
        settings: how.
        mix: whether mixup may mix people.
    """
    places = batch.places.to(latents.device)  # (B,)
    generator, device = batch.generator, latents.device
    uniform = torch.rand(len(places), generator=generator, device=device)
    face, image = features.draw(places, uniform)  # (B, Df), (B, Di): of the whole batch, for its mixtures
    clean = latents[places]  # (B, Z)
    if mix and settings.mixup:
        share = _shares(batch, settings, device)  # (B, 1)
        other = (torch.arange(len(places), device=device) + 1) % len(places)
        clean = torch.lerp(clean, clean[other], share)  # (B, Z)
        face = F.normalize(torch.lerp(face, face[other], share), dim=-1)  # (B, Df)
        image = F.normalize(torch.lerp(image, image[other], share), dim=-1)  # (B, Di)
    if settings.condition_noise:
        face = _blur(batch, face, transformer.face_deviation, settings.condition_noise)
        image = _blur(batch, image, transformer.image_deviation, settings.condition_noise)
    drop = torch.rand(len(places), generator=generator, device=device) < settings.condition_dropout
    return Shown(*(whole[batch.mine] for whole in (clean, face, image, drop)))


def _shares(batch: Batch, settings: DitSettings, device: torch.device) -> Tensor:
    """How much of the other person each mixture has, (B, 1); 0 for those that are not mixed."""
    # Beta(a, a) as a ratio of two gammas; drawn on the CPU, where gammas take a generator.
    gammas = torch._standard_gamma(
        torch.full((2, len(batch.places)), settings.mixup_alpha), generator=batch.cpu_generator
    )
    share = gammas[0] / gammas.sum(0)  # (B,)
    mixed = torch.rand(len(batch.places), generator=batch.cpu_generator) < settings.mixup
    return (share * mixed)[:, None].to(device)


def _blur(batch: Batch, features: Tensor, deviation: Tensor, most: float) -> Tensor:
    """Noise on unit vectors (B, K), of an amount between none and ``most`` for each."""
    generator, device = batch.generator, features.device
    amount = most * torch.rand(len(features), 1, generator=generator, device=device)  # (B, 1)
    noise = torch.randn(features.shape, generator=generator, device=device)  # (B, K)
    return F.normalize(features + amount * deviation * noise, dim=-1)
