"""Triton's kernels on a GPU where there is one, by its interpreter elsewhere; never by the reference unnoticed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def device() -> torch.device:
    return DEVICE


@pytest.fixture(params=["triton", "torch"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both paths, each by order: Triton refuses where it cannot run."""
    from difflora_kernels import use_backend

    with use_backend(request.param):
        yield request.param
