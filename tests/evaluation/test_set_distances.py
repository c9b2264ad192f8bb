from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from difflora.encoders.distances import frechet_distance, kernel_distance
from difflora.evaluation.intervals import around
from difflora.evaluation.set_distances import SetDistances

PEOPLE, EACH, WIDTH = 20, 4, 6


def _features(seed: int, people: int = PEOPLE, each: int = EACH, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(people, 1, WIDTH, generator=generator)
    return own + torch.randn(people, each, WIDTH, generator=generator) + shift


REFERENCE = _features(1, 30, 5).flatten(0, 1)


def test_everyone_drawn_once_is_the_figure_itself() -> None:
    distances, features = SetDistances(REFERENCE, None, 20), _features(2)
    once = torch.ones(1, PEOPLE, dtype=torch.int64)
    fid = frechet_distance(features.flatten(0, 1), REFERENCE)
    assert distances.frechet_draws(features, once).item() == pytest.approx(fid, rel=1e-5)
    same = _features(3, 30, 5)  # as many as in the reference, so that the library's one subset is everything
    kid = kernel_distance(same.flatten(0, 1), REFERENCE)
    once = torch.ones(1, 30, dtype=torch.int64)
    assert distances.kernel_draws(same, once).item() == pytest.approx(kid, rel=1e-5)


def test_a_person_drawn_twice_is_that_person_twice() -> None:
    distances, features = SetDistances(REFERENCE, None, 20), _features(2, people=3)
    drawn = distances.frechet_draws(features, torch.tensor([[2, 0, 1]]))
    twice = frechet_distance(features[[0, 0, 2]].flatten(0, 1), REFERENCE)
    assert drawn.item() == pytest.approx(twice, rel=1e-5)


def test_copies_do_not_count_as_pictures_that_are_alike() -> None:
    distances = SetDistances(REFERENCE, None, 400)
    figure = distances.measure(_features(4))["kid"]
    spread = figure.draws.std()
    assert abs(figure.draws.mean() - figure.value) < spread, "repeated people alone move no draw upwards"


def test_worse_pictures_are_farther_beyond_the_interval() -> None:
    distances = SetDistances(REFERENCE, None, 100)
    near, far = distances.measure(_features(5)), distances.measure(_features(5, shift=1.5))
    for name in ("fid", "kid"):
        one, other = (around(found[name].value, found[name].draws) for found in (near, far))
        assert one["low"] < one["mean"] < one["high"] < other["low"]
        gained = around(far[name].value - near[name].value, far[name].draws - near[name].draws)
        assert gained["low"] > 0
    again = distances.measure(_features(5))
    assert np.array_equal(again["kid"].draws, near["kid"].draws)


def test_two_people_with_one_picture_each() -> None:
    found = SetDistances(REFERENCE, 1.0, 50).measure(_features(6, people=2, each=1))
    assert np.isfinite(found["fid"].draws).all()
    assert np.isfinite(found["kid"].draws).all()
