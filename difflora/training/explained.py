"""How much of what tells people's LoRAs apart a model gives back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from difflora.models import LoraAutoencoder


@dataclass(frozen=True)
class Explained:
    """Fractions of variance explained; 1 is perfect, 0 is no better than the mean LoRA.

    Attributes:
        total: over all normalised weights.
        modules: for each module of the layout.
    """

    total: float
    modules: dict[str, float]


@torch.no_grad()
def explained_variance(lae: LoraAutoencoder, pairs: Iterable[tuple[Tensor, Tensor]]) -> Explained:
    """One minus squared error over squared distance from the training people's mean, in normalised weights.

    Args:
        lae: gives normalisation and mean.
        pairs: batches of LoRAs (N, D) and of what was made in their place (N, D), on the autoencoder's device.
    """
    scale, layout = lae.normalisation, lae.layout
    centre = scale.apply(lae.mean)  # (D,)
    error = torch.zeros(layout.size, dtype=torch.float64, device=centre.device)
    total = torch.zeros_like(error)
    for rows, made in pairs:
        x = scale.apply(rows)  # (N, D)
        error += (x - scale.apply(made)).double().square().sum(0)  # (D,)
        total += (x - centre).double().square().sum(0)  # (D,)
    modules = {name: _fraction(error[part], total[part]) for name, part in layout.slices.items()}
    return Explained(_fraction(error, total), modules)


@torch.no_grad()
def reconstructions(lae: LoraAutoencoder, rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches (N, D) beside what the autoencoder makes of them."""
    for batch in rows:
        there = batch.to(lae.mean.device)
        yield there, lae.decode(lae.encode(there))


@torch.no_grad()
def decoded(lae: LoraAutoencoder, rows: Iterable[Tensor], latents: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches (N, D) beside what the decoder makes of latents (all N, Z) of the same people."""
    done = 0
    for batch in rows:
        yield batch.to(lae.mean.device), lae.decode(latents[done : done + len(batch)])
        done += len(batch)


def _fraction(error: Tensor, total: Tensor) -> float:
    return round(1 - float(error.sum() / total.sum().clamp(min=torch.finfo(torch.float64).tiny)), 6)
