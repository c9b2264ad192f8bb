"""Bootstrap intervals over people, and paired differences of methods on the same people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.stats import bootstrap

Array = np.ndarray[Any, np.dtype[np.float64]]
_RESAMPLES, _SEED, _DIGITS = 4000, 0, 4


def in_words(figure: Mapping[str, float], digits: int = 3, between: str = " ") -> str:
    """A mean with its interval: ``0.310 (0.270 to 0.350)``."""
    low, high = (f"{figure[end]:.{digits}f}" for end in ("low", "high"))
    return f"{figure['mean']:.{digits}f}{between}({low} to {high})"


def rounded(value: Any) -> Any:
    """Figures as reports hold them: four digits; mappings and lists are gone through, all else is left."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def interval(values: Array) -> dict[str, float]:
    """The mean of one value a person, with its 95% bootstrap interval: ``mean``, ``low`` and ``high``."""
    return _summary([values], lambda a, axis=-1: a.mean(axis))


def difference(one: Array, other: Array) -> dict[str, float]:
    """The mean of ``one - other`` over the same people, with its interval."""
    return interval(one - other)


def around(value: float, draws: Array) -> dict[str, float]:
    """A figure of all people together, with the interval of its draws.

    Drawing with replacement repeats people, which alone moves such figures (FID upwards), so that the draws' spread
    about their own median is laid about the figure.

    Args:
        value: over everyone.
        draws: (B,) the same over people drawn with replacement.
    """
    low, middle, high = np.quantile(draws, (0.025, 0.5, 0.975))
    return {"mean": value, "low": float(value + low - middle), "high": float(value + high - middle)}


def fraction(part: Array, whole: Array, base: Array) -> dict[str, float] | None:
    """``(part - base) / (whole - base)`` of the means over the same people, with its interval.

    People are drawn whole: a draw takes all three values of a person. None where the whole gains nothing, or so little
    that its own interval reaches zero: a fraction of that says nothing.
    """
    if difference(whole, base)["low"] <= 0:
        return None
    return _summary(
        [part, whole, base], lambda a, b, c, axis=-1: (a.mean(axis) - c.mean(axis)) / (b.mean(axis) - c.mean(axis))
    )


def _summary(columns: list[Array], statistic: Callable[..., Any]) -> dict[str, float]:
    mean = float(statistic(*columns))
    if len(columns[0]) < 2 or all(np.ptp(column) == 0 for column in columns):
        return {"mean": mean, "low": mean, "high": mean}
    found = bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return {"mean": mean, "low": float(found.low), "high": float(found.high)}
