from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.lora import LoraLayout
from difflora.models import LoraAutoencoder, load_model, save_model
from difflora.models.linear_path import principal_components

Make = Callable[..., Any]


@pytest.mark.parametrize("linear_path", [False, True])
@pytest.mark.parametrize("mode", ["none", "module", "element"])
def test_shapes_ratio_and_gradients(make_lae: Make, rows: Tensor, linear_path: bool, mode: str) -> None:
    lae = make_lae(linear_path=linear_path, mode=mode)
    lae.fit_normalisation([rows])
    assert lae.latent_size == 20  # 58 numbers are 10 places of 6, each of 2 latent channels
    assert lae.compression_ratio == 58 / 20
    assert lae.encode(rows).shape == (12, 20)
    assert lae.decode(lae.encode(rows.half())).shape == rows.shape
    output = lae(rows)
    if mode != "none":
        assert output.rows.square().mean() == pytest.approx(1.0, rel=1e-3)
    (output.reconstruction - output.rows).square().mean().backward()
    closed = {"encoder", "decoder"} if linear_path else set()  # behind layers that start at zero
    for name, parameter in lae.named_parameters():
        if name.split(".")[0] not in closed:
            assert parameter.grad is not None, name


def test_every_part_of_the_paper_mode_is_trained(make_lae: Make, rows: Tensor) -> None:
    lae = make_lae()
    lae.fit_normalisation([rows])
    output = lae(rows)
    (output.reconstruction - output.rows).square().mean().backward()
    still = [name for name, parameter in lae.named_parameters() if not parameter.grad.abs().max() > 0]
    assert still == []


def test_better_mode_starts_as_the_pca_of_normalised_rows(make_lae: Make, rows: Tensor) -> None:
    lae = make_lae(linear_path=True, latent_channels=1)  # 10 latents
    lae.fit_normalisation([rows[:5], rows[5:]])
    x = lae.normalisation.apply(rows)
    lae.linear.start_from(x)
    mean, _, components = principal_components(x, 10)
    expected = (x - mean) @ components.T @ components + mean
    with torch.no_grad():
        torch.testing.assert_close(lae(rows).reconstruction, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            lae.decode(lae.encode(rows)), lae.normalisation.invert(expected), atol=1e-5, rtol=1e-3
        )


@pytest.mark.parametrize("scaling", ["coordinate", "global"])
def test_latents_have_unit_variance_over_the_training_people(make_lae: Make, rows: Tensor, scaling: str) -> None:
    lae = make_lae(latent_scaling=scaling)
    lae.fit_normalisation([rows])
    before = lae.decode(lae.encode(rows)).detach()
    lae.fit_latents([rows[:7], rows[7:]])
    with torch.no_grad():
        latents = lae.encode(rows)
        torch.testing.assert_close(lae.decode(latents), before, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(latents.mean(0), torch.zeros(20), atol=1e-4, rtol=0)
    variance = latents.var(0, unbiased=False)
    if scaling == "coordinate":
        torch.testing.assert_close(variance, torch.ones(20), atol=1e-3, rtol=0)
    else:
        assert variance.mean() == pytest.approx(1, abs=1e-3)
        assert variance.max() > 1.1 * variance.min()


def test_a_latent_that_never_moves_is_not_blown_up(make_lae: Make, rows: Tensor) -> None:
    lae = make_lae(linear_path=True, networks=False)
    lae.fit_normalisation([rows])
    lae.linear.start_from(lae.normalisation.apply(rows))
    lae.fit_latents([rows])
    assert torch.equal(lae.latent_deviation[11:], torch.ones(9))
    assert lae.encode(rows).abs().max() < 10


@pytest.mark.parametrize("subtract_mean", [True, False])
def test_strength_is_about_the_training_peoples_mean(make_lae: Make, rows: Tensor, subtract_mean: bool) -> None:
    lae = make_lae(subtract_mean=subtract_mean)
    lae.fit_normalisation([rows])
    torch.testing.assert_close(lae.mean, rows.mean(0))
    with torch.no_grad():
        latents = lae.encode(rows)
        once = lae.decode(latents)
        torch.testing.assert_close(
            lae.decode(latents, strength=1.5), rows.mean(0) + 1.5 * (once - rows.mean(0)), atol=1e-6, rtol=1e-4
        )
        torch.testing.assert_close(lae.decode(latents, strength=0.0), rows.mean(0).expand_as(rows))


def test_noise_reaches_input_and_latents_at_their_scale(make_lae: Make, rows: Tensor) -> None:
    lae = make_lae()
    lae.fit_normalisation([rows])
    with torch.no_grad():
        clean = lae(rows)
        noise = torch.randn(12, 58, generator=torch.Generator().manual_seed(0))
        moved = lae(rows, input_noise=noise)
        assert not torch.allclose(moved.latents, clean.latents)
        assert torch.equal(moved.rows, clean.rows), "the target is without noise"
        blurred = lae(rows, latent_noise=torch.ones(12, 20))
        scale = clean.latents.square().mean(1, keepdim=True).sqrt()
        assert torch.equal(blurred.latents, clean.latents)
        expected = lae._decode(clean.latents + scale)
        torch.testing.assert_close(blurred.reconstruction, expected)


def test_saved_and_loaded_it_is_the_same(make_lae: Make, rows: Tensor, layout: LoraLayout, tmp_path: Path) -> None:
    lae = make_lae(linear_path=True)
    lae.fit_normalisation([rows])
    lae.fit_latents([rows])
    save_model(lae, tmp_path / "lae")
    for loaded in (load_model(LoraAutoencoder, tmp_path / "lae"), LoraAutoencoder.from_pretrained(tmp_path / "lae")):
        assert loaded.layout == layout
        assert loaded.base.name == "tiny"
        assert (loaded.config.alpha, loaded.config.trigger_prompt) == (4.0, "a photo of sks")
        for name, tensor in lae.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name
        with torch.no_grad():
            assert torch.equal(loaded.decode(loaded.encode(rows)), lae.decode(lae.encode(rows)))
        save_model(loaded, tmp_path / "again")
        for path in (tmp_path / "lae").iterdir():
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
