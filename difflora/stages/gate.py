"""Whether a candidate may become the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from difflora.errors import BadParameter
from difflora.validation import read_yaml


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bounds(_Section):
    """What a figure must be."""

    least: float | None = None
    most: float | None = None

    def fault(self, value: float) -> str | None:
        """Why a value is out of bounds; None where it is not."""
        if self.least is not None and not value >= self.least:
            return f"{value:.4f} is below {self.least:g}"
        if self.most is not None and not value <= self.most:
            return f"{value:.4f} is above {self.most:g}"
        return None


class AgainstChampion(_Section):
    """The comparison person by person."""

    method: str = "generated"
    part: Literal["best", "native"] = "best"
    scores: dict[str, Bounds] = {"face_sim": Bounds(least=0.0)}


class Gate(_Section):
    """``mlflow/gate.yaml``."""

    thresholds: dict[str, Bounds] = {}
    champion: AgainstChampion = AgainstChampion()


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes:
        passed: whether the candidate may be promoted.
        lines: a sentence for each thing that was asked, faults first.
    """

    passed: bool
    lines: list[str]


def load_gate(path: Path) -> Gate:
    """Reads a gate.

    Raises:
        BadFile: if it is missing or no YAML mapping.
        BadParameter: for a key or value that is not allowed.
    """
    return read_yaml(Gate, path, "give the gate's file with --gate")


def judge(
    gate: Gate,
    figures: Mapping[str, Any],
    people: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
) -> Verdict:
    """Asks everything of a gate.

    Args:
        gate: the thresholds.
        figures: the candidate's ``reports/evaluation.json``.
        people: its ``reports/evaluation_people.json``.
        champion: the champion's, on the same people, prompts and seeds; None where there is no champion.

    Raises:
        BadParameter: if the two are not of the same people.
    """
    faults: list[str] = []
    passes: list[str] = []
    for name, bounds in gate.thresholds.items():
        value = _figure(figures, name)
        fault = "is not among the figures" if value is None else bounds.fault(value)
        (faults if fault else passes).append(f"{name}: {fault or f'{value:.4f} passes'}")
    if champion is None:
        passes.append("there is no champion to compare with")
    else:
        for line, worse in _compare(gate.champion, people, champion):
            (faults if worse else passes).append(line)
    return Verdict(not faults, faults + passes)


def _compare(wanted: AgainstChampion, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, bool]]:
    import numpy as np

    from difflora.evaluation.intervals import difference

    if ours["people"] != theirs["people"]:
        raise BadParameter(
            "candidate and champion were measured on different people; run `difflora registry measure` to measure the "
            "champion on the people of this workspace"
        )
    lines = []
    for score, bounds in wanted.scores.items():
        one, other = (side[wanted.part].get(wanted.method, {}).get(score) for side in (ours, theirs))
        if one is None and other is None:
            continue  # neither was measured by it
        if one is None or other is None:
            lines.append((f"{score}: measured for {'the champion' if one is None else 'the candidate'} alone", True))
            continue
        found = difference(np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64))
        worse = bounds.least is not None and found["high"] < bounds.least
        shown = f"{found['mean']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"
        lines.append(
            (f"{score}: candidate - champion = {shown}{', worse beyond its interval' if worse else ''}", worse)
        )
    if not lines:
        lines.append((f"none of {', '.join(wanted.scores)} was measured for candidate and champion", True))
    return lines


def _figure(figures: Mapping[str, Any], name: str) -> float | None:
    value: Any = figures
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None
