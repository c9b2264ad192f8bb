from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.draws import Apart, denoising_losses, gather, min_snr_weights
from difflora.corpus.latents import Encoded
from difflora.corpus.settings import DreamBoothSettings


def test_an_error_in_the_face_counts_more(
    base: FrozenBase, make_encoded: Callable[..., list[Encoded]], monkeypatch: pytest.MonkeyPatch
) -> None:
    person = make_encoded(1, 1)[0]
    person = replace(person, covered=torch.zeros(1, 8, 8))
    person.covered[0, 2, 3:5] = torch.tensor([1.0, 0.5])
    weight = gather(base, [person], DreamBoothSettings(face_weight=4)).weight[0, 0]
    assert weight.mean().item() == pytest.approx(1)
    assert weight[2, 3] / weight[0, 0] == pytest.approx(5)
    assert weight[2, 4] / weight[0, 0] == pytest.approx(3)

    errors = torch.zeros(2, 4, 8, 8)
    errors[:, :, 2, 3] = 1
    monkeypatch.setattr("difflora.corpus.draws.squared_errors", lambda *arguments: errors)
    for face_weight in (0.0, 4.0):
        settings = DreamBoothSettings(face_weight=face_weight, batch_size=2)
        data = gather(base, [person], settings)
        losses = denoising_losses(base, base.unet, data, settings, torch.Generator().manual_seed(3))
        assert losses.item() == pytest.approx(float(data.weight[0, 0, 2, 3]) / 64)


def test_without_a_face_all_places_count_alike(base: FrozenBase, make_encoded: Callable[..., list[Encoded]]) -> None:
    people = make_encoded(2)
    weighted = gather(base, people, DreamBoothSettings(face_weight=4)).weight
    assert torch.equal(weighted, torch.ones_like(weighted))


def test_weights_of_the_signal_that_is_left() -> None:
    timesteps = torch.tensor([0, 300, 600, 999])
    plain = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    level = plain.alphas_cumprod[timesteps]
    snr = level / (1 - level)
    expected = torch.minimum(snr, torch.tensor(5.0)) / snr
    torch.testing.assert_close(min_snr_weights(plain, timesteps, 5.0), expected)
    assert expected[0] < 0.01
    assert expected[-1] == 1
    velocity = DDPMScheduler.from_config(plain.config, prediction_type="v_prediction")
    torch.testing.assert_close(min_snr_weights(velocity, timesteps, 5.0), expected + 1)


def test_no_signal_at_all_is_the_limit_and_no_nan() -> None:
    scheduler = DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert scheduler.alphas_cumprod[-1] == 0
    assert min_snr_weights(scheduler, torch.tensor([999]), 5.0) == pytest.approx(2.0)


def _drawn(
    base: FrozenBase, people: list[Encoded], apart: Apart | None, monkeypatch: pytest.MonkeyPatch
) -> list[Tensor]:
    """Timesteps (P, 3) and noise (P, 3, C, h, w) that the UNet would be shown."""
    seen: list[Tensor] = []

    def errors(base: Any, unet: Any, latents: Tensor, timesteps: Tensor, noise: Tensor, *more: Any) -> Tensor:
        seen.extend(each.unflatten(0, (len(people), -1)) for each in (timesteps, noise))
        return torch.zeros_like(latents)

    settings = DreamBoothSettings(batch_size=3)
    with monkeypatch.context() as patched:
        patched.setattr("difflora.corpus.draws.squared_errors", errors)
        data, generator = gather(base, people, settings), torch.Generator().manual_seed(5)
        denoising_losses(base, base.unet, data, settings, generator, apart=apart)
    return seen


def test_draws_are_the_same_for_all_or_each_ones_own(
    base: FrozenBase, make_encoded: Callable[..., list[Encoded]], monkeypatch: pytest.MonkeyPatch
) -> None:
    people = make_encoded(4)
    timesteps, noise = _drawn(base, people, None, monkeypatch)
    assert torch.equal(timesteps, timesteps[:1].expand_as(timesteps))
    assert torch.equal(noise, noise[:1].expand_as(noise))
    timesteps, noise = _drawn(base, people, Apart(4, slice(0, 4)), monkeypatch)
    assert len(timesteps.unique()) == timesteps.numel()
    assert len(noise.unique()) == noise.numel()
    thirds = timesteps * 3 // base.scheduler.config.num_train_timesteps  # everyone sees much, some and little noise
    assert torch.equal(thirds, torch.arange(3).expand(4, 3))


def test_a_share_of_the_people_gets_the_draws_it_has_among_all(
    base: FrozenBase, make_encoded: Callable[..., list[Encoded]], monkeypatch: pytest.MonkeyPatch
) -> None:
    people = make_encoded(4)
    whole = _drawn(base, people, Apart(4, slice(0, 4)), monkeypatch)
    share = _drawn(base, people[2:], Apart(4, slice(2, 4)), monkeypatch)
    for each, part in zip(whole, share, strict=True):
        assert torch.equal(each[2:], part)
