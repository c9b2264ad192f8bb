"""What an evaluation's figures do not show, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from difflora.encoders.subject import WHOLE_PICTURES
from difflora.evaluation.tables import METRICS, flatten, label, metrics_in

PLANNED = (
    *("base", "other", "retrieval", "ridge", "mlp", "dreambooth", "textual_inversion", "instantid", "photomaker"),
    *("reconstruction", "generated", "teacher"),
)
"""Methods that the comparison is to hold in the end; ``teacher`` is the corpus's own DreamBooth LoRA."""

_SAME = {"dreambooth": "teacher"}


def limits_of(figures: Mapping[str, Any]) -> list[str]:
    """Paragraphs: of whom and what the figures are, which are circular, what was not measured.

    Args:
        figures: of ``reports/evaluation.json``.
    """
    setting, methods = figures.get("setting") or {}, figures["methods"]
    source, base = setting.get("pictures"), setting.get("base")
    about = f"pictures from {source}" if source else "these people's pictures"
    about += f" and the base model {base}" if base else ""
    paragraphs = [
        f"Everything here is about {about}. Where people are rendered and models are the embedded world's, a result "
        "is a result about that world: it does not show how the method does on photographs of people or on other "
        "base models.",
        f"{figures['people']} people and {figures['prompts']} prompts a person"
        + (f", {each} pictures of each," if (each := figures.get("images_per_prompt", 1)) > 1 else "")
        + " were measured. An interval is a 95% "
        "bootstrap interval over these people: it says how far the mean might move with other people of the same "
        "kind, and nothing of other prompts, other seeds of training or another corpus. Many differences are shown; "
        "at 95%, one in twenty of those that are truly zero looks as if it were not.",
        (
            "Likeness is an encoder's opinion of whole pictures: of what they show as well as of how. Picture Sim is "
            "circular: the same encoder filters pictures, conditions the hypernetwork and scores. "
            if setting.get("subjects") == WHOLE_PICTURES
            else "Likeness is a recogniser's opinion. Face Sim is circular: the same face pack filters the people's "
            "pictures, conditions the hypernetwork and scores. "
        )
        + (
            "The independent recogniser has no such part and counts more; it too learnt from such pictures."
            if "face_sim_independent" in metrics_in(methods)
            else "No independent recogniser was given, so nothing here is free of that."
        ),
        _faces(methods),
        _absent(methods),
    ]
    return [one for one in paragraphs if one]


def _faces(methods: Mapping[str, Any]) -> str:
    """Where faces were missed, and what that did."""
    lost = []
    for name, row in methods.items():
        found = flatten(row).get("faces_found") if isinstance(row, Mapping) else None
        mean = found["mean"] if isinstance(found, Mapping) else found
        if isinstance(mean, float | int) and mean < 1:
            lost.append(f"{name.replace('_', ' ')} {100 * (1 - mean):.1f}%")
    if not lost:
        return ""
    return f"Pictures without a face count as likeness 0 and are not left out: {', '.join(lost)}."


def _absent(methods: Mapping[str, Any]) -> str:
    shown = set(metrics_in(methods))
    metrics = [label(key).rstrip(" ↑↓") for key in METRICS if key not in shown]
    measured = {name for name, row in methods.items() if isinstance(row, Mapping)}
    rows = [name for name in PLANNED if name not in measured and _SAME.get(name) not in measured]
    parts = [f"metrics {', '.join(metrics)}"] if metrics else []
    parts += [f"methods {', '.join(name.replace('_', ' ') for name in rows)}"] if rows else []
    return f"Not measured here: {'; '.join(parts)}." if parts else ""
