from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from difflora.errors import BadParameter
from difflora.models import NoiseSettings, make_scheduler
from difflora.models.noise import check_scheduler, target_of, to_x0


def test_levels_are_the_papers() -> None:
    scheduler = make_scheduler(NoiseSettings(), "sample")
    betas = torch.linspace(1e-4, 0.012, 1000)
    torch.testing.assert_close(scheduler.alphas_cumprod, (1 - betas).cumprod(0), rtol=1e-4, atol=0)
    assert scheduler.alphas_cumprod[-1].sqrt() == pytest.approx(0.048, abs=1e-3)
    scheduler.set_timesteps(100)
    assert scheduler.timesteps[0] == 999, "sampling starts at the last level"
    bare = make_scheduler(NoiseSettings(zero_terminal_snr=True), "sample")
    assert bare.alphas_cumprod[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["sample", "epsilon", "v_prediction"])
def test_x0_comes_back_from_each_kind_of_prediction(kind: Any) -> None:
    scheduler = make_scheduler(NoiseSettings(), kind)
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 7, 4, generator=generator).double()
    timesteps = torch.tensor([0, 10, 200, 500, 700, 900, 998])
    noisy = scheduler.add_noise(latents, noise, timesteps)
    target = target_of(scheduler, latents, noise, timesteps)
    torch.testing.assert_close(to_x0(scheduler, target, noisy, timesteps), latents, atol=1e-4, rtol=1e-4)


def test_schedulers_that_cut_latents_off_are_refused() -> None:
    with pytest.raises(BadParameter, match="clip_sample is on"):
        check_scheduler(DDIMScheduler())
    with pytest.raises(BadParameter, match="sampler is 'euler'"):
        make_scheduler(NoiseSettings(), "sample", "euler")  # type: ignore[arg-type]
