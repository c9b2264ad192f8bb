"""Makes what rows lack, step by step, and puts their figures side by side."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from difflora.errors import BadFile, BadParameter
from difflora.evaluation.intervals import difference, interval, rounded
from difflora.files import write_json
from difflora.folders import read_json
from difflora.stages.ablations.catalogue import FULL, Ablation, changed
from difflora.stages.ablations.workspace import AblationWorkspace
from difflora.stages.locks import alone
from difflora.stages.tracking import SILENT, track
from difflora.stages.workspace import Workspace

logger = logging.getLogger(__name__)

REPORT = "ablations.json"
_STEPS = ("corpus", "lae", "dit", "evaluate")


@dataclass(frozen=True)
class _Scores:
    """A row's figures, one a person."""

    people: list[str]
    best: dict[str, list[float]]
    native: dict[str, list[float]]
    strength: float


def run_ablations(chain: Workspace, rows: Sequence[Ablation]) -> dict[str, Any]:
    """Makes the rows that were not made yet for these inputs, and writes ``reports/ablations.json``.

    The chain must have been run: its corpus and its models are what rows share.

    Args:
        chain: its workspace.
        rows: what to compare, the row ``full`` among them.

    Returns:
        The figures: ``rows.<name>.<score>`` with ``mean``, ``low`` and ``high`` at the best strength, ``native`` at
        strength 1, ``minus.<score>`` the paired difference to the row's ``against``; ``left_out.<name>`` says why a row
        could not be made; ``train_people`` has the rows that differ in the number of people alone, and ``full``.

    Raises:
        BadFile: if the chain was not run yet.
        Busy: if ablations of this workspace are being made already.
    """
    found: dict[str, _Scores] = {}
    left_out: dict[str, str] = {}
    with (
        alone(chain.root / "data" / "ablations" / "lock", "making ablations"),
        track(chain.root, "ablations", {"rows": [row.name for row in rows]}) as tracker,
    ):
        for number, row in enumerate(rows):
            logger.info("ablation %d of %d: %s", number + 1, len(rows), row.name)
            try:
                found[row.name] = _make(AblationWorkspace.below(chain, changed(chain.params, row)))
            except BadParameter as error:
                if row.name == FULL:
                    raise
                left_out[row.name] = str(error)
        figures = _side_by_side(chain, rows, found, left_out)
        write_json(chain.report(REPORT), figures)
        tracker.metrics({name: row["best"] for name, row in figures["rows"].items()})
        tracker.artifact(chain.report(REPORT))
    return figures


def _make(workspace: AblationWorkspace) -> _Scores:
    for step in _STEPS:
        if not workspace.made(step):
            importlib.import_module(f"difflora.stages.{step}").run(workspace, SILENT)
            workspace.mark_made(step)
    people = read_json(workspace.report("evaluation_people.json"))
    strength = read_json(workspace.report("evaluation.json"))["strength"]["generated"]
    return _Scores(people["people"], people["best"]["generated"], people["native"]["generated"], float(strength))


def _side_by_side(
    chain: Workspace, rows: Sequence[Ablation], found: dict[str, _Scores], left_out: dict[str, str]
) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for row in rows:
        if row.name not in found:
            continue
        own, other = found[row.name], found.get(row.against)
        table[row.name] = {
            "says": row.says,
            "changes": row.told,
            "strength": own.strength,
            "best": _intervals(own.best),
            "native": _intervals(own.native),
        }
        if other is not None and row.name != row.against:
            if own.people != other.people:
                raise BadFile(
                    f"{chain.root / 'data' / 'ablations'}: {row.name} and {row.against} were measured on other people; "
                    "remove the folder and run again"
                )
            table[row.name] |= {
                "against": row.against,
                "minus": _differences(own.best, other.best),
                "minus_native": _differences(own.native, other.native),
            }
    return {
        "people": len(found[FULL].people),
        "rows": table,
        "left_out": left_out,
        "train_people": _by_people(rows, table, len(chain.open_corpus().indices("train"))),
    }


def _by_people(rows: Sequence[Ablation], table: dict[str, Any], everyone: int) -> list[dict[str, Any]]:
    """The rows that differ in the number of training people alone, up to that of the chain itself."""
    made = {
        int(row.changes["corpus.train_people"]): table[row.name]["best"]
        for row in rows
        if set(row.changes) == {"corpus.train_people"} and row.name in table
    }
    if made:
        made[everyone] = table[FULL]["best"]
    return [{"people": count, **best} for count, best in sorted(made.items())]


def _intervals(scores: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {key: rounded(interval(_array(values))) for key, values in scores.items()}


def _differences(one: dict[str, list[float]], other: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {key: rounded(difference(_array(one[key]), _array(other[key]))) for key in one}


def _array(values: list[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(values, dtype=np.float64)
