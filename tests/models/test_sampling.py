"""Sampling against models whose x0 is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from difflora.errors import BadParameter
from difflora.models import NoiseSettings, make_scheduler, sample_latents
from difflora.models.sampling import guided

NOISE = NoiseSettings()
MEAN, SPREAD = 3.0, 0.5


class _Known(torch.nn.Module):
    """Stands for a transformer."""

    def __init__(self, x0: Callable[[Tensor, Tensor], Tensor], size: int = 4) -> None:
        super().__init__()
        self.x0, self.config = x0, type("Config", (), {"latent_size": size})
        self.seen: list[tuple[int, int]] = []

    def forward(self, latents: Tensor, timesteps: Tensor, face: Tensor, image: Tensor, drop: Any = None) -> Tensor:
        self.seen.append((len(latents), int(timesteps[0])))
        return self.x0(latents, timesteps)


def _sample(model: Any, scheduler: Any, steps: int, people: int = 3, **options: Any) -> Tensor:
    generator = options.pop("generator", None) or torch.Generator().manual_seed(0)
    features = torch.zeros(people, 2), torch.zeros(people, 2)
    return sample_latents(model, scheduler, *features, num_inference_steps=steps, generator=generator, **options)


def _posterior_mean(latents: Tensor, timesteps: Tensor) -> Tensor:
    """E(x0 | x_t) where x0 is normal of MEAN and SPREAD: the best that any model can do."""
    level = make_scheduler(NOISE, "sample").alphas_cumprod[timesteps][:, None]
    gain = level.sqrt() * SPREAD**2 / (level * SPREAD**2 + 1 - level)
    return MEAN + gain * (latents - level.sqrt() * MEAN)


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
@pytest.mark.parametrize("steps", [1, 10, 100])
def test_a_model_that_knows_x0_is_believed_also_beyond_one(sampler: Any, steps: int) -> None:
    answer = torch.tensor([3.0, -7.0, 0.2, 1.0])
    made = _sample(
        _Known(lambda latents, _: answer.expand_as(latents)), make_scheduler(NOISE, "sample", sampler), steps
    )
    torch.testing.assert_close(made, answer.expand(3, 4), atol=1e-4, rtol=1e-4)


def test_ddim_is_the_recursion_of_the_paper() -> None:
    scheduler = make_scheduler(NOISE, "sample")
    assert isinstance(scheduler, DDIMScheduler)
    made = _sample(_Known(_posterior_mean), scheduler, 20)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double()
    levels = torch.cat([scheduler.alphas_cumprod.double(), torch.ones(1)])
    for t in range(999, -1, -50):
        now, after = levels[t], levels[t - 50] if t >= 50 else levels[-1]
        x0 = _posterior_mean(x, torch.full((3,), t))
        noise = (x - now.sqrt() * x0) / (1 - now).sqrt()
        x = after.sqrt() * x0 + (1 - after).sqrt() * noise
    torch.testing.assert_close(made.double(), x, atol=1e-3, rtol=1e-3)


def test_dpm_solver_needs_fewer_steps_than_ddim() -> None:
    fine = _sample(_Known(_posterior_mean), make_scheduler(NOISE, "sample"), 1000)
    scheduler = make_scheduler(NOISE, "sample", "dpm++")
    assert isinstance(scheduler, DPMSolverMultistepScheduler)

    def error(scheduler: Any, steps: int) -> float:
        return float((_sample(_Known(_posterior_mean), scheduler, steps) - fine).abs().mean())

    assert error(scheduler, 20) < 0.3 * error(make_scheduler(NOISE, "sample"), 20)
    assert error(scheduler, 20) < 0.02


def test_steps_go_from_the_last_level_down() -> None:
    model, told = _Known(lambda latents, _: latents), []
    _sample(model, make_scheduler(NOISE, "sample"), 4, on_step=lambda: told.append(1))
    assert [t for _, t in model.seen] == [999, 749, 499, 249]
    assert len(told) == 4


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
@pytest.mark.parametrize("kind", ["sample", "v_prediction"])
def test_a_callback_sees_each_step_and_what_was_predicted_there(sampler: Any, kind: Any) -> None:
    scheduler, seen = make_scheduler(NOISE, kind, sampler), []
    model = _Known(lambda latents, _: 0.5 * latents)

    def watch(step: int, timestep: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((step, timestep, dict(tensors)))
        return tensors

    wanted = ("latents", "pred_original_sample")
    made = _sample(model, scheduler, 4, on_step_end=watch, on_step_end_tensors=wanted)
    assert [(step, timestep) for step, timestep, _ in seen] == [(0, 999), (1, 749), (2, 499), (3, 249)]
    assert torch.equal(seen[-1][2]["latents"], made)
    torch.testing.assert_close(seen[-1][2]["pred_original_sample"], made, atol=1e-5, rtol=1e-5)
    before = seen[1][2]["latents"]  # what the third step starts from
    level = scheduler.alphas_cumprod[499]
    x0 = 0.5 * before if kind == "sample" else level.sqrt() * before - (1 - level).sqrt() * 0.5 * before
    torch.testing.assert_close(seen[2][2]["pred_original_sample"], x0)


def test_what_a_callback_gives_back_is_gone_on_from() -> None:
    model = _Known(lambda latents, _: latents)

    def stop(step: int, timestep: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"latents": 0 * tensors["latents"]}

    made = _sample(model, make_scheduler(NOISE, "sample"), 3, on_step_end=stop)
    assert torch.equal(made, torch.zeros(3, 4))
    plain = _sample(model, make_scheduler(NOISE, "sample"), 3)
    assert torch.equal(_sample(model, make_scheduler(NOISE, "sample"), 3, on_step_end=lambda *_: {}), plain)


@torch.no_grad()
def test_guidance_goes_from_null_through_conditional(make_dit: Callable[..., Any]) -> None:
    transformer = make_dit(linear_skip=True)
    generator = torch.Generator().manual_seed(0)
    latents, face, image = (torch.randn(3, width, generator=generator) for width in (20, 5, 3))
    timesteps = torch.tensor([999, 500, 3])
    conditional = transformer(latents, timesteps, face, image)
    null = transformer(latents, timesteps, face, image, torch.ones(3, dtype=torch.bool))
    made = guided(transformer, latents, timesteps, face, image, 2.5)
    torch.testing.assert_close(made, null + 2.5 * (conditional - null), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(guided(transformer, latents, timesteps, face, image, 0.0), null, atol=1e-5, rtol=1e-4)
    assert torch.equal(guided(transformer, latents, timesteps, face, image, 1.0), conditional)


def test_with_a_generator_each_a_latent_depends_on_nobody_else() -> None:
    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    model, scheduler = _Known(_posterior_mean), make_scheduler(NOISE, "sample")
    together = _sample(model, scheduler, 5, generator=generators(7, 8, 9))
    alone = _sample(model, scheduler, 5, people=1, generator=generators(8))
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "num_inference_steps is 0"),
        ({"steps": 1001}, "num_inference_steps is 1001: give 1 to 1000"),
        ({"steps": 5, "guidance_scale": -1.0}, "guidance_scale is -1"),
        ({"steps": 5, "guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"steps": 5, "generator": [torch.Generator()]}, "1 generators for 3 people"),
        ({"steps": 5, "on_step_end_tensors": ["noise"]}, "nothing called 'noise': there are latents, pred_original"),
    ],
)
def test_numbers_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        _sample(_Known(_posterior_mean), make_scheduler(NOISE, "sample"), **options)
