from __future__ import annotations

import numpy as np
import pytest

from difflora.evaluation.intervals import around, difference, fraction, interval

GENERATOR = np.random.default_rng(3)


def test_the_interval_of_a_mean_has_the_textbook_width() -> None:
    values = GENERATOR.normal(0.4, 0.2, 400)
    found = interval(values)
    assert found["mean"] == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found["low"] == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found["high"] == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_pairs_are_tighter_than_the_people_are_apart() -> None:
    people = GENERATOR.normal(0, 1, 50)
    found = difference(people + 0.1 + 0.01 * GENERATOR.normal(size=50), people)
    assert 0.09 < found["low"] < found["mean"] < found["high"] < 0.11


def test_a_fraction_is_of_the_means() -> None:
    base = GENERATOR.normal(0, 0.05, 40)
    whole, part = base + 0.5, base + 0.4
    found = fraction(part, whole, base)
    assert found is not None
    assert found["mean"] == pytest.approx(0.8)
    assert found["low"] == pytest.approx(0.8), "people's own level cancels: a draw takes all three values"


def test_no_fraction_of_no_gain() -> None:
    base = GENERATOR.normal(0, 0.05, 40)
    assert fraction(base, base, base) is None
    assert fraction(base, GENERATOR.normal(0, 0.05, 40), base) is None


def test_draws_lie_about_the_figure_whatever_their_level() -> None:
    draws = GENERATOR.normal(9.0, 0.5, 5000)
    found = around(7.0, draws)
    assert found["mean"] == 7.0
    assert found["low"] == pytest.approx(7 - 1.96 * 0.5, abs=0.05)
    assert found["high"] == pytest.approx(7 + 1.96 * 0.5, abs=0.05)


def test_equal_values_and_one_person_have_a_point() -> None:
    assert interval(np.array([0.5])) == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert interval(np.full(9, 0.25)) == {"mean": 0.25, "low": 0.25, "high": 0.25}


def test_the_same_figures_give_the_same_interval() -> None:
    values = GENERATOR.normal(size=20)
    assert interval(values) == interval(values)
