from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difflora.errors import BadParameter
from difflora.models.linear_path import LinearPath, principal_components


def _svd_reconstruction(rows: Tensor, count: int) -> Tensor:
    mean = rows.double().mean(0)
    u, s, v = torch.linalg.svd(rows.double() - mean, full_matrices=False)
    return (u[:, :count] * s[:count] @ v[:count] + mean).float()


def test_components_are_those_of_the_singular_value_decomposition(rows: Tensor) -> None:
    mean, deviations, components = principal_components(rows, 5)
    _, s, v = torch.linalg.svd(rows.double() - rows.double().mean(0), full_matrices=False)
    torch.testing.assert_close(mean, rows.mean(0))
    torch.testing.assert_close(deviations, (s[:5] / len(rows) ** 0.5).float(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((components.double() @ v[:5].T).abs(), torch.eye(5).double(), atol=1e-4, rtol=0)


def test_start_is_the_pca_with_latents_of_unit_variance(rows: Tensor) -> None:
    path = LinearPath(rows.shape[1], 5)
    assert path.start_from(rows) == 5
    with torch.no_grad():
        latents = path.encode(rows)
        torch.testing.assert_close(latents.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
        torch.testing.assert_close(latents.var(0, unbiased=False), torch.ones(5), atol=1e-3, rtol=0)
        torch.testing.assert_close(path.decode(latents), _svd_reconstruction(rows, 5), atol=1e-5, rtol=1e-3)


def test_latents_beyond_the_rows_components_stay_at_zero(rows: Tensor) -> None:
    path = LinearPath(rows.shape[1], 20)
    assert path.start_from(rows) == len(rows) - 1
    with torch.no_grad():
        latents = path.encode(rows)
        assert torch.equal(latents[:, 11:], torch.zeros(12, 9))
        torch.testing.assert_close(path.decode(latents), rows, atol=1e-5, rtol=1e-3)


def test_first_steps_of_adamw_do_not_wipe_out_the_pca() -> None:
    # At D = 20,000 the PCA's own entries are about 1e-3, as small as AdamW's first steps.
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(16, 4, generator=generator) @ torch.randn(4, 20_000, generator=generator)
    path = LinearPath(20_000, 4)
    path.start_from(rows)
    optimizer = torch.optim.AdamW(path.parameters(), lr=1e-3)
    for _ in range(3):
        noisy = rows + 0.1 * torch.randn(rows.shape, generator=generator)
        (path.decode(path.encode(noisy)) - rows).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        error = (path.decode(path.encode(rows)) - rows).square().mean() / rows.square().mean()
    assert error < 0.05


def test_pca_needs_two_people() -> None:
    with pytest.raises(BadParameter, match="at least 2 people"):
        principal_components(torch.ones(1, 8), 3)
