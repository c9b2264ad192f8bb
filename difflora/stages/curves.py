"""Losses over steps, as CSV for whoever plots them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from difflora.files import write_atomic


def write_curve(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """A line a log: ``step`` and the means since the last one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]) if history else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomic(path, text.getvalue().encode())
