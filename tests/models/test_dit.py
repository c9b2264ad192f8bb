from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

Make = Callable[..., Any]


def _inputs(count: int = 6, size: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents, face, image = (torch.randn(count, width, generator=generator) for width in (size, 5, 3))
    return latents, torch.randint(0, 1000, (count,), generator=generator), face, image


@torch.no_grad()
def test_a_new_transformer_is_its_linear_skip_alone(make_dit: Make) -> None:
    latents, timesteps, face, image = _inputs()
    assert torch.equal(make_dit(wake=False)(latents, timesteps, face, image), torch.zeros(6, 20))
    transformer = make_dit(wake=False, linear_skip=True)
    transformer.skip.weight.normal_()
    transformer.skip.bias.normal_()
    expected = transformer.skip(torch.cat([face, image], dim=1))
    torch.testing.assert_close(transformer(latents, timesteps, face, image), expected)
    drop = torch.tensor([True, False] * 3)
    dropped = transformer(latents, timesteps, face, image, drop)
    assert torch.equal(dropped[0], torch.zeros(20))
    torch.testing.assert_close(dropped[1], expected[1])


def test_layers_start_as_the_identity_and_all_learn(make_dit: Make) -> None:
    transformer = make_dit(wake=False)
    tokens, condition = torch.randn(2, 4, 16), torch.randn(2, 16)
    for layer in transformer.layers:
        assert torch.equal(layer(tokens, condition), tokens)
    transformer = make_dit(linear_skip=True)
    latents, timesteps, face, image = _inputs()
    drop = torch.tensor([True, False] * 3)
    transformer(latents, timesteps, face, image, drop).square().mean().backward()
    for name, parameter in transformer.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_what_is_dropped_does_not_show(make_dit: Make) -> None:
    transformer = make_dit(linear_skip=True)
    latents, timesteps, face, image = _inputs()
    everyone = torch.ones(6, dtype=torch.bool)
    withheld = transformer(latents, timesteps, face, image, everyone)
    torch.testing.assert_close(withheld, transformer(latents, timesteps, -face, 3 * image, everyone))
    assert not torch.allclose(withheld, transformer(latents, timesteps, face, image))
    some = torch.tensor([True, False, True, False, False, False])
    mixed = transformer(latents, timesteps, face, image, some)
    torch.testing.assert_close(mixed[some], withheld[some])
    torch.testing.assert_close(mixed[~some], transformer(latents, timesteps, face, image)[~some])


@torch.no_grad()
def test_latent_time_face_picture_and_place_all_count(make_dit: Make) -> None:
    transformer = make_dit()
    latents, timesteps, face, image = _inputs()
    made = transformer(latents, timesteps, face, image)
    assert not torch.allclose(made, transformer(latents + 1, timesteps, face, image))
    assert not torch.allclose(made, transformer(latents, (timesteps + 400) % 1000, face, image))
    assert not torch.allclose(made, transformer(latents, timesteps, -face, image))
    assert not torch.allclose(made, transformer(latents, timesteps, face, -image))
    turned = latents.unflatten(1, (4, 5)).flip(1).flatten(1)  # tokens in reverse order
    back = transformer(turned, timesteps, face, image).unflatten(1, (4, 5)).flip(1).flatten(1)
    assert not torch.allclose(made, back), "tokens know their place"


@torch.no_grad()
def test_latents_that_do_not_fill_the_tokens(make_dit: Make) -> None:
    transformer = make_dit(size=18)
    latents, timesteps, face, image = _inputs(size=18)
    assert transformer.token_size == 5
    assert transformer(latents, timesteps, face, image).shape == (6, 18)


@torch.no_grad()
def test_features_are_standardised_by_stored_statistics(make_dit: Make) -> None:
    transformer = make_dit()
    generator = torch.Generator().manual_seed(3)
    face, image = 3 + 2 * torch.randn(50, 5, generator=generator), torch.randn(50, 3, generator=generator)
    face[:, 4] = 0.5  # tells nobody from anybody
    transformer.fit_features(face, image)
    same, other = transformer.standardised(face, image)
    torch.testing.assert_close(same[:, :4].mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(same[:, :4].std(0, unbiased=False), torch.ones(4), atol=1e-4, rtol=0)
    assert torch.equal(same[:, 4], torch.zeros(50))
    torch.testing.assert_close(other.std(0, unbiased=False), torch.ones(3), atol=1e-4, rtol=0)
    assert {"face_mean", "face_deviation", "image_mean", "image_deviation"} <= set(transformer.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("off", ["use_face", "use_image"])
def test_a_feature_that_is_off_does_not_show(make_dit: Make, off: str) -> None:
    transformer = make_dit(linear_skip=True, **{off: False})
    latents, timesteps, face, image = _inputs()
    made = transformer(latents, timesteps, face, image)
    others = (-face, image) if off == "use_face" else (face, -image)
    assert torch.equal(made, transformer(latents, timesteps, *others))
