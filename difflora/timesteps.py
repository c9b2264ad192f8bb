"""Which noise levels a training step is made at."""

from __future__ import annotations

import torch
from torch import Tensor


def spread_timesteps(count: int, steps: int, generator: torch.Generator, mode_scale: float = 0.0) -> Tensor:
    """One random timestep in each of ``count`` parts of the schedule that are equally likely, (count,) int64.

    ``mode_scale`` is s of the mode sampling of arXiv 2403.03206, section 3.1: 0 draws evenly, 0.8 draws the middle 3.3
    times as often as the ends.
    """
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    places = places - mode_scale * ((torch.pi / 2 * places).sin().square() - places)
    return (places * steps).long().clamp(0, steps - 1)
