"""Random changes to pictures: shapes, ranges, determinism, and that content stays."""

from __future__ import annotations

import torch

from difflora.world.augment import jitter_colour, jitter_place, random_crops, soften


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_generator_gives_the_same_pictures() -> None:
    images = torch.rand(6, 3, 64, 64, generator=_generator(1))
    for change in (jitter_place, soften, jitter_colour):
        first, second = change(images, _generator(2)), change(images, _generator(2))
        assert torch.equal(first, second)
        assert first.shape == images.shape
        assert not torch.equal(first, images)


def test_jitter_place_without_amounts_is_the_identity() -> None:
    images = torch.rand(2, 3, 64, 64, generator=_generator(1))
    still = jitter_place(images, _generator(), shift=0.0, scale=0.0, flip=False)
    assert torch.allclose(still, images, atol=1e-4)


def test_jitter_place_mirrors_about_half() -> None:
    images = torch.rand(1, 3, 8, 8, generator=_generator(1)).expand(200, -1, -1, -1)
    moved = jitter_place(images, _generator(3), shift=0.0, scale=0.0)
    mirrored = ((moved - images.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-4).float().mean()
    assert 0.35 < float(mirrored) < 0.65


def test_soften_lowers_the_contrast_of_neighbours_only() -> None:
    images = torch.rand(16, 3, 64, 64, generator=_generator(1))
    soft = soften(images, _generator(2), odds=1.0)
    assert float(soft.diff(dim=-1).abs().mean()) < 0.8 * float(images.diff(dim=-1).abs().mean())
    assert abs(float(soft.mean() - images.mean())) < 0.01


def test_soften_with_no_odds_is_the_identity() -> None:
    images = torch.rand(3, 3, 64, 64, generator=_generator(1))
    assert torch.equal(soften(images, _generator(2), odds=0.0), images)


def test_jitter_colour_stays_in_range() -> None:
    changed = jitter_colour(torch.rand(8, 3, 64, 64, generator=_generator(1)), _generator(2), amount=0.3, noise=0.3)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1


def test_random_crops_come_from_inside_the_picture() -> None:
    across = torch.linspace(0, 1, 64).expand(50, 3, 64, 64)  # the value is the place
    crops = random_crops(across, 24, (0.1, 0.4), _generator(4))
    assert crops.shape == (50, 3, 24, 24)
    width = crops[:, 0, 0].amax(dim=1) - crops[:, 0, 0].amin(dim=1)
    assert float(width.min()) > 0.25
    assert float(width.max()) < 0.7
    rising = (crops[:, 0, 0, -1] > crops[:, 0, 0, 0]).float().mean()
    assert 0.25 < float(rising) < 0.75  # half are mirrored
    whole = random_crops(across, 64, (1.0, 1.0), _generator(4), flip=False)
    assert torch.allclose(whole, across, atol=1e-4)
