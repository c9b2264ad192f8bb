"""The evaluation's report in Markdown: the same words and tables as the page's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from difflora.evaluation.ranking import Gain
from difflora.evaluation.tables import Table, cell, label

if TYPE_CHECKING:
    from difflora.evaluation.page import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!&])")


def markdown(report: Report) -> str:
    """The whole text; figures are linked, pictures are on the page."""
    parts = [f"# Evaluation on {report.people} people whom no model has seen", "## What was run"]
    parts.append("\n".join(f"- {escape(name)}: {escape(value)}" for name, value in report.facts))
    for table in report.tables:
        parts += [f"## {escape(table.title)}", table_lines(table), *map(escape, table.notes)]
    if report.figures:
        parts += ["## Figures", report.apart]
        for one in report.figures:
            parts += [f"### {escape(one.title)}", f"![{escape(one.alt)}](figures/{_address(one.file)})"]
            parts += [escape(one.caption)] if one.caption else []
    if report.ranking.recogniser is not None:
        name = label(report.ranking.recogniser).rstrip(" ↑")
        parts += [f"## People by generated minus base, {name}", table_lines(_gains(report.ranking.gains))]
    parts += ["## What this does not show", *map(escape, report.limits)]
    parts += ["\n".join(f"- {escape(one)}" for one in report.missing)] if report.missing else []
    return "\n\n".join(parts) + "\n"


def table_lines(table: Table) -> str:
    """A table in Markdown."""
    rows = [table.columns, ("---", *["---:"] * (len(table.columns) - 1))]
    shown = ["| " + " | ".join(map(escape, rows[0])) + " |", "|" + "|".join(rows[1]) + "|"]
    return "\n".join([*shown, *("| " + " | ".join(map(escape, row)) + " |" for row in table.rows)])


def escape(text: str) -> str:
    """Text in which nothing is Markdown or HTML any more, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _gains(gains: Sequence[Gain]) -> Table:
    rows = tuple((one.person, cell(one.gain), cell(one.base), cell(one.generated)) for one in gains)
    return Table("", ("person", "gain", "base", "generated"), rows)


def _address(name: str) -> str:
    from urllib.parse import quote

    return quote(name)
