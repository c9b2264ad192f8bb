"""What the ladder says, as plain figures: ``reports/evaluation.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from difflora.evaluation.intervals import around, difference, fraction, interval, rounded
from difflora.evaluation.ladder import Ladder
from difflora.evaluation.likeness import RECOGNISERS
from difflora.evaluation.losses import losses
from difflora.evaluation.measure import Measured
from difflora.evaluation.picture_methods import NOT_YET
from difflora.evaluation.settings import EvaluateSettings

PAIRS = (
    ("other", "base"),
    ("generated", "base"),
    ("generated", "other"),
    ("generated", "retrieval"),
    ("generated", "ridge"),
    ("generated", "mlp"),
    ("generated", "textual_inversion"),
    ("generated", "reconstruction"),
    ("generated", "teacher"),
    ("reconstruction", "base"),
    ("teacher", "base"),
    ("teacher", "reconstruction"),
    ("real", "teacher"),
)
"""Differences that are reported, paired over people."""

_ENDS = ("base", "real")


def summarise(ladder: Ladder, settings: EvaluateSettings) -> dict[str, Any]:
    """All figures with their 95% bootstrap intervals over people.

    Keys: ``methods.<name>.<score>``, ``fraction.<recogniser>`` and ``paired.<a>_minus_<b>.<score>``, each with
    ``mean``, ``low`` and ``high``, at each method's best strength; ``methods_native``, ``fraction_native`` and
    ``paired_native`` are the same at strength 1. ``strength`` is null for a method without a LoRA, whose figures are
    the same in both. ``not_yet`` names rows of the paper's Table 1 that nobody draws yet. ``fid`` and ``kid`` are of
    all pictures together, with intervals of people drawn anew. ``methods.<name>.seconds`` has the parts and ``sum``:
    from a reference to the first picture, of one person, ``images`` being one picture's. ``metrics``, ``fid_features``
    and ``fid_reference`` say what was measured with what, and what was left out. ``fraction`` is (generated - base) /
    (teacher - base), null where the teacher's own gain is not clearly above zero. ``losses`` and ``losses_native`` say
    how much likeness each rung of the ladder loses, and which one loses most.
    """
    subjects = ladder.subjects
    figures: dict[str, Any] = {
        "people": len(subjects),
        "prompts": len(settings.prompts),
        "images_per_prompt": settings.images_per_prompt,
        "methods": _methods(ladder.best),
        "methods_native": _methods(ladder.native),
        "not_yet": [name for name in NOT_YET if name not in ladder.best],
        "strength": {name: ladder.strengths.get(name) for name in ladder.best if name not in _ENDS},
        "strength_tried": ladder.tried,
        "fraction": _fractions(ladder.best),
        "fraction_native": _fractions(ladder.native),
        "paired": _pairs(ladder.best),
        "paired_native": _pairs(ladder.native),
        "losses": losses(ladder.best),
        "losses_native": losses(ladder.native),
        "seconds": ladder.seconds,
        **ladder.facts,
    }
    short: dict[str, Any] = rounded(figures)
    return short


def by_person(ladder: Ladder) -> dict[str, Any]:
    """Every person's figures, for whoever compares another model on the same people."""
    return {
        "people": [subject.identity for subject in ladder.subjects],
        **{
            part: {
                name: {key: rounded(values.tolist()) for key, values in measured.scores.items()}
                for name, measured in methods.items()
            }
            for part, methods in (("best", ladder.best), ("native", ladder.native))
        },
    }


def _methods(methods: Mapping[str, Measured]) -> dict[str, Any]:
    return {name: _figures(measured) for name, measured in methods.items()}


def _figures(measured: Measured) -> dict[str, Any]:
    found: dict[str, Any] = {key: interval(values) for key, values in measured.scores.items()}
    found |= {key: around(figure.value, figure.draws) for key, figure in measured.sets.items()}
    if measured.seconds:
        found["seconds"] = measured.seconds | {"sum": sum(measured.seconds.values())}
    return found


def _fractions(methods: Mapping[str, Measured]) -> dict[str, Any]:
    if not {"teacher", "generated"} <= methods.keys():
        return {}
    base, teacher, generated = (methods[name].scores for name in ("base", "teacher", "generated"))
    return {name: fraction(generated[name], teacher[name], base[name]) for name in RECOGNISERS if name in base}


def _pairs(methods: Mapping[str, Measured]) -> dict[str, Any]:
    return {
        f"{one}_minus_{other}": _differences(methods[one], methods[other])
        for one, other in PAIRS
        if one in methods and other in methods
    }


def _differences(one: Measured, other: Measured) -> dict[str, dict[str, float]]:
    found = {key: difference(values, other.scores[key]) for key, values in one.scores.items() if key in other.scores}
    for key, figure in one.sets.items():
        if key in other.sets:  # draw by draw: the same people were drawn for both
            theirs = other.sets[key]
            found[key] = around(figure.value - theirs.value, figure.draws - theirs.draws)
    return found
