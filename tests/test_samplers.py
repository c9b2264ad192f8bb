from __future__ import annotations

from typing import get_args

import pytest
from diffusers import DDIMScheduler, EulerDiscreteScheduler, LCMScheduler

from difflora.samplers import PictureSampler, make_scheduler
from difflora.world.base import build_scheduler


@pytest.mark.parametrize("sampler", get_args(PictureSampler))
def test_each_keeps_the_base_models_noise_levels(sampler: PictureSampler) -> None:
    own = build_scheduler()
    made = make_scheduler(sampler, own)
    assert made.config.prediction_type == "v_prediction"
    assert made.config.beta_end == 0.012
    assert not made.config.get("clip_sample", False), "latents are not bounded as pixels are"
    made.set_timesteps(4)
    assert len(made.timesteps) == 4
    assert (made is own) == (sampler == "own")


def test_names_are_those_of_the_field() -> None:
    own = DDIMScheduler()
    assert isinstance(make_scheduler("euler", own), EulerDiscreteScheduler)
    assert isinstance(make_scheduler("lcm", own), LCMScheduler)
    assert make_scheduler("ddim", own).config.clip_sample is False
