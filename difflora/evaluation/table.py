"""The evaluation's figures as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from difflora.encoders.subject import WHOLE_PICTURES
from difflora.evaluation.intervals import in_words
from difflora.evaluation.tables import with_missing

_COLUMNS = {
    "face_sim": "face sim",
    "face_sim_independent": "independent",
    "agreement": "prompts followed",
    "faces_found": "faces found",
}
_QUALITY = {
    "dino": "DINO",
    "clip_i": "CLIP-I",
    "clip_t": "CLIP-T",
    "image_reward": "reward",
    "diversity": "diversity",
    "fid": "FID",
    "kid": "KID",
}
_SECONDS = ("train", "encode", "sample", "decode", "merge", "images", "sum")


def ladder_table(figures: Mapping[str, Any]) -> Table:
    """A row a method: each figure at the method's best strength, and likeness at strength 1.

    Args:
        figures: what ``summarise`` gives.
    """
    native, best = figures["methods_native"], figures["methods"]
    shown = [key for key in _COLUMNS if any(key in row for row in best.values())]
    table = Table(title=f"{figures['people']} unseen people, {figures['prompts']} prompts each; 95% intervals")
    table.add_column("method")
    whole = figures.get("setting", {}).get("subjects") == WHOLE_PICTURES
    shown = [key for key in shown if not (whole and key == "faces_found")]
    names = _COLUMNS | ({"face_sim": "picture sim"} if whole else {})
    table.add_column(f"{names['face_sim']}, S = 1", justify="right")
    table.add_column("S", justify="right")
    for key in shown:
        table.add_column(names[key], justify="right")
    for name, row in with_missing(figures).items():
        if row is None:
            table.add_row(name, "not yet", *[""] * (1 + len(shown)))
            continue
        strength = figures["strength"].get(name)
        cells = [_cell(row.get(key)) for key in shown]
        table.add_row(name, _cell(native[name].get("face_sim")), f"{strength:g}" if strength else "", *cells)
    return table


def further_tables(figures: Mapping[str, Any]) -> list[Table]:
    """What pictures were measured with beside likeness and agreement, and seconds: a table each, where there are any.

    Args:
        figures: what ``summarise`` gives.
    """
    rows = figures["methods"]
    tables = []
    if shown := [key for key in _QUALITY if any(key in row for row in rows.values())]:
        table = Table(title=f"Pictures at the same strengths{_against(figures)}; 95% intervals below")
        table.add_column("method")
        for key in shown:
            table.add_column(_QUALITY[key], justify="right")
        for name, row in rows.items():
            table.add_row(name, *(_cell(row.get(key), "\n") for key in shown))
        tables.append(table)
    timed = {name: row["seconds"] for name, row in rows.items() if row.get("seconds")}
    if timed:
        table = Table(title="Seconds of one person and one picture")
        table.add_column("method")
        parts = [part for part in _SECONDS if any(part in row for row in timed.values())]
        for part in parts:
            table.add_column(part, justify="right")
        for name, row in timed.items():
            table.add_row(name, *(f"{row[part]:.4f}" if part in row else "-" for part in parts))
        tables.append(table)
    return tables


def _against(figures: Mapping[str, Any]) -> str:
    reference = figures.get("fid_reference")
    if reference is None:
        return ""
    return f"; FID and KID by {figures['fid_features']} against {reference['pictures']} {reference['name']}"


def summary_lines(figures: Mapping[str, Any]) -> list[str]:
    """The figures that decide, in words."""
    lines = []
    for key in figures["fraction"]:
        best, native = figures["fraction"][key], figures["fraction_native"][key]
        lines.append(
            f"fraction of the teacher's gain by {key}: {_cell(best)} at best strengths, {_cell(native)} at strength 1"
        )
    lines += [f"by {key}: {one['says']}" for key, one in (figures.get("losses") or {}).items() if one["says"]]
    for other in ("retrieval", "ridge", "mlp", "textual_inversion", "teacher"):
        if f"generated_minus_{other}" not in figures["paired"]:
            continue
        lines.append(f"generated minus {other}: {_cell(figures['paired'][f'generated_minus_{other}']['face_sim'])}")
    lines += [f"not measured: {name}, {why}" for name, why in figures.get("metrics", {}).get("left_out", {}).items()]
    return lines


def _cell(figure: Mapping[str, float] | None, between: str = " ") -> str:
    if figure is None:
        return "-"
    return in_words(figure, between=between)
