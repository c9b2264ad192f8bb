"""How far each method's LoRAs are moved from the mean: chosen on validation people, prompts not forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from difflora.evaluation.likeness import RECOGNISERS
from difflora.evaluation.measure import Measured, Scorer
from difflora.evaluation.rows import strengthened
from difflora.evaluation.subjects import Subject


def choose_strengths(
    scorer: Scorer,
    subjects: Sequence[Subject],
    rows: Mapping[str, Tensor],
    mean: Tensor,
    base: Measured | None,
    strengths: Sequence[float],
    margin: float,
) -> tuple[dict[str, float], dict[str, dict[str, dict[str, float]]]]:
    """The strength of most likeness whose prompt agreement is at most ``margin`` below the base model's.

    They are tried from the least on, and none beyond the first that does not keep to the margin: a stronger LoRA only
    forgets more of a prompt. Where none keeps to it, 1 is chosen.

    Args:
        scorer: draws and scores.
        subjects: validation people, with the prompts to choose with.
        rows: method -> (P, D).
        mean: (D,) the training people's mean.
        base: the base model on the same people and prompts; None where prompt agreement is not measured.
        strengths: what is tried.
        margin: see above.

    Returns:
        Method -> strength, and method -> strength -> what was measured where it was tried.
    """
    chosen, tried = {}, {}
    least = 0.0 if base is None else float(base.scores["agreement"].mean()) - margin
    for name, flat in rows.items():
        found: dict[float, dict[str, float]] = {}
        allowed = []
        for strength in sorted(strengths):
            measured = scorer.measure(subjects, strengthened(flat, mean, strength))
            found[strength] = {key: float(value.mean()) for key, value in measured.scores.items()}
            if found[strength].get("agreement", 1.0) < least:
                break
            allowed.append(strength)
        chosen[name] = max(allowed, key=lambda one: found[one][RECOGNISERS[0]]) if allowed else 1.0
        tried[name] = {f"{strength:g}": values for strength, values in found.items()}
    return chosen, tried
