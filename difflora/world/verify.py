"""Measuring the world's bars again, from a fresh seed."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflora.errors import BadFile, BadParameter
from difflora.world.bars import Bar
from difflora.world.manifest import record_bars, stored_models
from difflora.world.pool import GENERIC_SEED, PEOPLE_SEED
from difflora.world.registry import resolve

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A bar and the model that it is about."""

    model: str
    bar: Bar


def check_seed(seed: int, count: int | None = None) -> None:
    """Refuses a seed that cannot measure.

    Raises:
        BadParameter: if the seed is negative or one that the training pools were drawn from, or the count too small.
    """
    if not 0 <= seed < 2**31:
        raise BadParameter(f"seed is {seed}: give one from 0 to {2**31 - 1}")
    if seed in (GENERIC_SEED, PEOPLE_SEED):
        raise BadParameter(f"seed {seed} drew the training pictures: a bar on it would say nothing, give another")
    if count is not None and count < 8:
        raise BadParameter(f"count is {count}: give at least 8, or leave it out for the full size")


def run_verifications(names: Sequence[str], assets: Path, seed: int, count: int | None = None) -> list[Row]:
    """Measures the bars of the named models; for no name, of all that were made, with a warning for the others.

    Args:
        names: names or groups of the registry.
        assets: the assets folder.
        seed: seed of the people, scenes and prompts that are measured on.
        count: how many of them; None for the full size.

    Raises:
        BadParameter: for an unknown name, or a seed or count that cannot measure.
        BadFile: if a model that a bar needs is missing.
    """
    check_seed(seed, count)
    models, stored, rows = resolve(names), stored_models(assets), []
    if not names and stored:
        whole = [model for model in models if {model.name, *model.verified_with} <= stored]
        if left_out := [model.name for model in models if model not in whole]:
            logger.warning("%s: not all made yet, so not measured: %s", assets, ", ".join(left_out))
        models = whole
    for model in models:
        for needed in (model.name, *model.verified_with):
            if needed not in stored:
                why = "" if needed == model.name else f", which {model.name} is measured with"
                raise BadFile(f"{assets}: no files of {needed}{why}; `difflora world train {needed}` makes them")
    for model in models:
        logger.info("measuring %s with seed %d", model.name, seed)
        rows += [Row(model.name, bar) for bar in model.verify(assets, seed, count)]
    return rows


def rows_as_json(rows: Sequence[Row], seed: int, count: int | None) -> dict[str, Any]:
    """The rows for a file: seed, count, whether all passed, and a list of rows."""
    listed = [
        {"model": row.model, **record.model_dump()}
        for row, record in zip(rows, record_bars([row.bar for row in rows]), strict=True)
    ]
    return {"seed": seed, "count": count, "passed": all(row.bar.passed for row in rows), "rows": listed}


def goal_in_words(goal: float | None, at_least: bool) -> str:
    """A goal as it is shown: "at least 0.98", or a dash for a figure that is only reported."""
    if goal is None or math.isnan(goal):
        return "-"
    return f"{'at least' if at_least else 'at most'} {goal:g}"
