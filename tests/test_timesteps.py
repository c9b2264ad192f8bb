from __future__ import annotations

import pytest
import torch

from difflora.timesteps import spread_timesteps


def test_timesteps_are_spread_over_the_whole_schedule() -> None:
    timesteps = spread_timesteps(100, 1000, torch.Generator().manual_seed(0))
    assert torch.equal(timesteps // 10, torch.arange(100))


def test_the_middle_of_the_schedule_is_drawn_oftener() -> None:
    timesteps = spread_timesteps(10_000, 1000, torch.Generator().manual_seed(0), 0.8).float()
    counts = torch.histc(timesteps, 10, 0, 1000)
    assert counts.sum() == 10_000
    assert counts[4] / counts[0] == pytest.approx(3, abs=0.3)
    assert timesteps.mean() == pytest.approx(500, abs=1)
