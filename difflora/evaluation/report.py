"""What the ladder says, as plain figures: ``reports/evaluation.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from difflora.evaluation.intervals import difference, fraction, interval
from difflora.evaluation.ladder import Ladder
from difflora.evaluation.likeness import RECOGNISERS
from difflora.evaluation.measure import Measured
from difflora.evaluation.settings import EvaluateSettings

PAIRS = (
    ("generated", "base"),
    ("generated", "other"),
    ("generated", "retrieval"),
    ("generated", "ridge"),
    ("generated", "mlp"),
    ("generated", "reconstruction"),
    ("generated", "teacher"),
    ("reconstruction", "base"),
    ("teacher", "base"),
    ("real", "teacher"),
)
"""Differences that are reported, paired over people."""

_DIGITS = 4


def summarise(ladder: Ladder, settings: EvaluateSettings) -> dict[str, Any]:
    """All figures with their 95% bootstrap intervals over people.

    Keys: ``methods.<name>.<score>``, ``fraction.<recogniser>`` and ``paired.<a>_minus_<b>.<score>``, each with
    ``mean``, ``low`` and ``high``, at each method's best strength; ``methods_native``, ``fraction_native`` and
    ``paired_native`` are the same at strength 1. ``fraction`` is (generated - base) / (teacher - base), null where the
    teacher's own gain is not clearly above zero.
    """
    subjects = ladder.subjects
    figures: dict[str, Any] = {
        "people": len(subjects),
        "prompts": len(settings.prompts),
        "methods": _methods(ladder.best),
        "methods_native": _methods(ladder.native),
        "strength": ladder.strengths,
        "strength_tried": ladder.tried,
        "fraction": _fractions(ladder.best),
        "fraction_native": _fractions(ladder.native),
        "paired": _pairs(ladder.best),
        "paired_native": _pairs(ladder.native),
        "seconds": ladder.seconds,
    }
    rounded: dict[str, Any] = _rounded(figures)
    return rounded


def by_person(ladder: Ladder) -> dict[str, Any]:
    """Every person's figures, for whoever compares another model on the same people."""
    return {
        "people": [subject.identity for subject in ladder.subjects],
        **{
            part: {
                name: {key: _rounded(values.tolist()) for key, values in measured.scores.items()}
                for name, measured in methods.items()
            }
            for part, methods in (("best", ladder.best), ("native", ladder.native))
        },
    }


def _methods(methods: Mapping[str, Measured]) -> dict[str, Any]:
    return {
        name: {key: interval(values) for key, values in measured.scores.items()} for name, measured in methods.items()
    }


def _fractions(methods: Mapping[str, Measured]) -> dict[str, Any]:
    if not {"teacher", "generated"} <= methods.keys():
        return {}
    base, teacher, generated = (methods[name].scores for name in ("base", "teacher", "generated"))
    return {name: fraction(generated[name], teacher[name], base[name]) for name in RECOGNISERS if name in base}


def _pairs(methods: Mapping[str, Measured]) -> dict[str, Any]:
    return {
        f"{one}_minus_{other}": {
            key: difference(values, methods[other].scores[key])
            for key, values in methods[one].scores.items()
            if key in methods[other].scores
        }
        for one, other in PAIRS
        if one in methods and other in methods
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value
