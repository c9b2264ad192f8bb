"""Losses over steps and figures of modules, as CSV for whoever plots them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difflora.files import write_atomic


def write_curve(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """A line a log: ``step`` and the means since the last one."""
    _write(path, list(history[0]) if history else ["step"], history)


def write_modules(path: Path, figures: Mapping[str, float], name: str) -> None:
    """A line a module: ``module`` and its figure, under the name it has."""
    _write(path, ["module", name], [{"module": module, name: figure} for module, figure in figures.items()])


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
