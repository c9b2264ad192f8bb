"""Where likeness is lost on the way from a real picture down to a LoRA generated from one photograph."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from difflora.evaluation.intervals import difference, in_words
from difflora.evaluation.likeness import RECOGNISERS
from difflora.evaluation.measure import Measured

RUNGS = ("real", "teacher", "reconstruction", "generated", "other", "base")
"""From the person down to nothing known of the person."""

_NAMES = {
    "real": "real pictures",
    "teacher": "the person's own DreamBooth LoRA",
    "reconstruction": "the autoencoder's reconstruction of it",
    "generated": "the generated LoRA",
}
_OURS = ("teacher", "reconstruction", "generated")
"""Between these lies what the hypernetwork's two models lose; the first step is DreamBooth's and the base model's."""


def losses(methods: Mapping[str, Measured]) -> dict[str, Any]:
    """What each rung has less than the one above, paired over people.

    Args:
        methods: rung -> its figures.

    Returns:
        Recogniser -> ``steps``: ``<upper>_to_<lower>`` -> mean, low and high of the likeness that is lost, of
        neighbours that were measured; ``most``: the key of the largest step from the teacher down to the generated
        LoRA, null where there is none; ``clear``: whether its interval is above zero; ``says``: that as a sentence.
    """
    found = {}
    for name in RECOGNISERS:
        there = [rung for rung in RUNGS if rung in methods and name in methods[rung].scores]
        if len(there) < 2:
            continue
        pairs = {f"{upper}_to_{lower}": (upper, lower) for upper, lower in pairwise(there)}
        steps = {
            step: difference(methods[upper].scores[name], methods[lower].scores[name])
            for step, (upper, lower) in pairs.items()
        }
        ours = [step for step, pair in pairs.items() if set(pair) <= set(_OURS)]
        most = max(ours, key=lambda step: steps[step]["mean"]) if ours else None
        clear = most is not None and steps[most]["low"] > 0
        found[name] = {"steps": steps, "most": most, "clear": clear, "says": _says(steps, ours, most, clear)}
    return found


def _says(steps: Mapping[str, Mapping[str, float]], ours: list[str], most: str | None, clear: bool) -> str:
    parts = []
    if most is not None:
        start = "Most likeness is lost" if clear else "No rung clearly loses likeness; the largest step is"
        parts.append(f"{start} from {_step(most)}: {in_words(steps[most])}")
        parts += [f"from {_step(step)} {in_words(steps[step])}" for step in ours if step != most]
    if "real_to_teacher" in steps:
        parts.append(
            f"from {_step('real_to_teacher')}, which no hypernetwork mends, {in_words(steps['real_to_teacher'])}"
        )
    return f"{'; '.join(parts)}." if parts else ""


def _step(key: str) -> str:
    upper, lower = key.split("_to_")
    return f"{_NAMES[upper]} to {_NAMES[lower]}"
