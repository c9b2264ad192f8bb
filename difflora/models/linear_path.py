"""A linear autoencoder of normalised LoRAs that starts as their principal component analysis."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from difflora.errors import BadParameter

_NUMBERS_AT_ONCE = 2**23
_RANK_TOLERANCE = 1e-6
"""Components with less than this part of the first one's deviation are rounding: N rows have N - 1 at most."""


class LinearPath(nn.Module):
    """``z = E (x - bias)`` and ``x = W z + bias``; both matrices are trained.

    The encoder is stored times the root of D and applied divided by it. Its own entries would be as small as 1 / D,
    and an optimiser whose steps have one size, such as AdamW, would wipe them out in its first steps.

    Args:
        size: D, numbers of a flat LoRA.
        latent_size: Z, numbers of a latent.
    """

    def __init__(self, size: int, latent_size: int) -> None:
        super().__init__()
        self.encoder = nn.Parameter(torch.empty(latent_size, size))
        self.decoder = nn.Parameter(torch.empty(size, latent_size))
        self.bias = nn.Parameter(torch.zeros(size))
        self._gain = 1 / math.sqrt(size)
        with torch.no_grad():
            self.encoder.normal_(std=1.0)
            self.decoder.normal_(std=1 / math.sqrt(latent_size))

    def encode(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, Z)."""
        return (x - self.bias) @ self.encoder.T * self._gain  # (B, Z)

    def decode(self, latents: Tensor) -> Tensor:
        """(B, Z) -> (B, D)."""
        return latents @ self.decoder.T + self.bias  # (B, D)

    @torch.no_grad()
    def start_from(self, rows: Tensor) -> int:
        """Sets the path to the PCA of normalised rows, with each latent at unit variance over them.

        Where the rows have fewer components than the latent, the rest of it stays at zero.

        Args:
            rows: (N, D) float32, on the CPU.

        Returns:
            How many components there were.

        Raises:
            BadParameter: if there are fewer than 2 rows.
        """
        mean, deviations, components = principal_components(rows, len(self.encoder))
        count = len(deviations)
        self.encoder.zero_()
        self.decoder.zero_()
        self.bias.copy_(mean)
        self.encoder[:count] = (components / (deviations[:, None] * self._gain)).to(self.encoder)
        self.decoder[:, :count] = (components * deviations[:, None]).T.to(self.decoder)
        return count


def principal_components(rows: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first principal components, by the (N, N) products of rows: D may be far larger than N.

    Args:
        rows: (N, D) float32.
        most: how many components at most.

    Returns:
        The rows' mean (D,), the components' deviations (K,) falling, and the components (K, D), orthonormal; float32.

    Raises:
        BadParameter: if there are fewer than 2 rows.
    """
    mean = rows.mean(0)  # (D,)
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for part in _columns(rows, mean):
        products.addmm_(part, part.T)  # (N, N)
    deviations, vectors = spectrum(products, most)
    weights = (vectors / (deviations * math.sqrt(len(rows)))).T  # (K, N)
    components = torch.cat([(weights @ part).float() for part in _columns(rows, mean)], dim=1)  # (K, D)
    return mean, deviations.float(), components


def spectrum(products: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Deviations (K,) of the first principal components, falling, and the unit vectors (N, K) of their scores; float64.

    Args:
        products: (N, N) float64 of N rows without their mean with each other.
        most: how many components at most; N rows have N - 1, and those that are rounding are left out.

    Raises:
        BadParameter: if there are fewer than 2 rows.
    """
    if len(products) < 2:
        raise BadParameter(f"PCA of {len(products)} LoRAs: give at least 2 people to train on")
    squares, vectors = torch.linalg.eigh(products)  # (N,) rising, (N, N)
    deviations = (squares.clamp(min=0) / len(products)).sqrt()
    count = min(most, len(products) - 1, int((deviations > _RANK_TOLERANCE * deviations[-1]).sum()))
    return deviations.flip(0)[:count], vectors.flip(1)[:, :count]


def _columns(rows: Tensor, mean: Tensor) -> Iterator[Tensor]:
    """Blocks of columns in float64, without their mean."""
    step = max(1, _NUMBERS_AT_ONCE // len(rows))
    for part, middle in zip(rows.split(step, dim=1), mean.split(step), strict=True):
        yield part.double() - middle.double()  # (N, step)
