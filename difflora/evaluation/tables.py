"""The evaluation's figures as tables of words, whatever metrics and methods were measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from difflora.encoders.subject import WHOLE_PICTURES

METRICS = {
    "face_sim": ("Face Sim ↑", "cosine by the face pack, which also filters people and conditions the model"),
    "face_sim_independent": ("Independent ↑", "cosine by a face recogniser that nothing else uses"),
    "dino": ("DINO ↑", "cosine of DINO features with the person's other pictures"),
    "clip_i": ("CLIP-I ↑", "cosine of CLIP features with the person's other pictures"),
    "clip_t": ("CLIP-T ↑", "cosine of CLIP features of picture and prompt"),
    "agreement": ("Prompts followed ↑", "share of what a prompt asks for that is there"),
    "image_reward": (
        "Reward ↑",
        "how people would like it for its prompt: ImageReward, or a model in its place",
    ),
    "fid": ("FID ↓", "Fréchet distance of features from a reference set"),
    "kid": ("KID ↓", "kernel distance of features from a reference set"),
    "diversity": ("Diversity ↑", "how unlike each other a person's pictures are"),
    "faces_found": ("Faces found ↑", "share of pictures with a face; one without counts as likeness 0"),
}
"""Known metrics in their order: name, and what it is. Others come after them under their own names."""

_KNOWN = (
    *("people", "prompts", "images_per_prompt", "methods", "methods_native", "not_yet", "strength", "strength_tried"),
    *("fraction", "fraction_native", "paired", "paired_native", "losses", "losses_native"),
    *("seconds", "setting"),
)
_SECONDS, _DEEPER = "seconds", ", "

_INSTEAD = {
    "Face Sim": "Picture Sim",
    "cosine by the face pack, which also filters people and conditions the model": "cosine by the image encoder, which "
    "also filters pictures and conditions the model",
    "cosine by a face recogniser": "cosine by an encoder of whole pictures",
    "Faces found": "Pictures looked at",
    "share of pictures with a face; one without counts as likeness 0": "all of them: no face is asked for",
}
"""What is said in the place of faces where they are whole pictures."""


@dataclass(frozen=True)
class Table:
    """Words in rows.

    Attributes:
        title: what it shows.
        columns: of each cell, the row's name first.
        rows: a name and as many cells as there are other columns.
        notes: sentences under it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def tables_of(figures: Mapping[str, Any]) -> list[Table]:
    """Every figure of ``reports/evaluation.json`` in some table; empty tables are left out.

    Args:
        figures: what ``summarise`` gives, with whatever was added to it.
    """
    best, strength = with_missing(figures), figures.get("strength") or {}
    shown = metrics_in(best)
    notes = metric_notes(shown, figures)
    first = grid_table("Methods, each at the strength chosen for it on other people", best, shown, notes)
    if strength:
        first = with_strengths(first, list(best), strength)
    native = figures.get("methods_native") or {}
    tables = [
        first,
        grid_table("Methods at strength 1", native, metrics_in(native)),
        _fractions(figures),
        _losses("Likeness that each rung loses, at the chosen strengths", figures.get("losses") or {}),
        _losses("Likeness that each rung loses, at strength 1", figures.get("losses_native") or {}),
        _paired("Paired differences over people, at the chosen strengths", figures.get("paired") or {}),
        _paired("Paired differences over people, at strength 1", figures.get("paired_native") or {}),
        seconds_table(figures),
        _tried(figures.get("strength_tried") or {}),
        _rest({key: value for key, value in figures.items() if key not in _KNOWN}),
    ]
    return [about_subjects(table, figures) for table in tables if table.rows]


def about_subjects(table: Table, figures: Mapping[str, Any]) -> Table:
    """A table in words for what an evaluation's subjects are.

    Args:
        table: in words for faces.
        figures: of ``reports/evaluation.json``.
    """
    if (figures.get("setting") or {}).get("subjects") != WHOLE_PICTURES:
        return table
    rows = tuple(tuple(map(_instead, row)) for row in table.rows)
    return Table(_instead(table.title), tuple(map(_instead, table.columns)), rows, tuple(map(_instead, table.notes)))


def _instead(text: str) -> str:
    for word, other in _INSTEAD.items():
        text = text.replace(word, other)
    return text


def metric_notes(keys: Iterable[str], figures: Mapping[str, Any]) -> tuple[str, ...]:
    """What each known metric is, and the encoder that measured it where the figures say so.

    Args:
        keys: of the metrics.
        figures: of ``reports/evaluation.json``.
    """
    encoders = (figures.get("metrics") or {}).get("encoders") or {}
    by = {key: f", by {encoders[key]}" for key in keys if key in encoders}
    return tuple(f"{METRICS[key][0]}: {METRICS[key][1]}{by.get(key, '')}." for key in keys if key in METRICS)


def with_missing(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Method -> its figures at the chosen strength; None for those that are not measured yet, before ``real``.

    Args:
        figures: of ``reports/evaluation.json``.
    """
    rows = dict(figures["methods"])
    real = {"real": rows.pop("real")} if "real" in rows else {}
    return {**rows, **{name: None for name in figures.get("not_yet") or () if name not in rows}, **real}


def with_strengths(table: Table, methods: Sequence[str], strength: Mapping[str, float | None]) -> Table:
    """A table of methods with a column of their strengths after their names.

    Args:
        table: a row a method.
        methods: of the rows.
        strength: method -> the chosen one; None, or no key, where it has none.
    """
    marks = ["" if (value := strength.get(name)) is None else f"{value:g}" for name in methods]
    rows = tuple((row[0], mark, *row[1:]) for row, mark in zip(table.rows, marks, strict=True))
    return replace(table, columns=(table.columns[0], "S", *table.columns[1:]), rows=rows)


def ablation_tables(figures: Mapping[str, Any]) -> list[Table]:
    """What each ablation gave (Table 3), and how far it is from the row that it changes.

    Args:
        figures: ``reports/ablations.json``.
    """
    rows = figures["rows"]
    named = {name: f"{name}: {row['says']}" for name, row in rows.items()}
    best = {named[name]: row["best"] for name, row in rows.items()}
    minus = {f"{name} minus {row['against']}": row["minus"] for name, row in rows.items() if "minus" in row}
    notes = tuple(f"{words(name)} was left out: {why}" for name, why in (figures.get("left_out") or {}).items())
    title = f"Ablations on {figures['people']} people, each at its best strength"
    tables = [grid_table(title, best, metrics_in(best), notes), _paired("Ablations, paired differences", minus)]
    return [table for table in tables if table.rows]


def study_tables(scores: Mapping[str, Any]) -> list[Table]:
    """The user study's scores (Table 2).

    Args:
        scores: what ``difflora study score`` writes.
    """
    head = f"{scores['raters']} raters, {scores['votes']} votes on {scores['items']} pictures, marks 1 to 5"
    notes = ("Intervals over people: a person's value is the mean of all votes on their pictures.",)
    tables = [grid_table(f"User study: {head}", scores["methods"], _keys(scores["methods"]), notes)]
    over = scores.get("methods_over_raters") or {}
    notes = ("A rater's value is the mean of all their votes on the method.",)
    tables.append(grid_table("User study, intervals over raters", over, _keys(over), notes))
    tables.append(_paired("User study, paired differences over people", scores.get("paired") or {}))
    agreement = {"Krippendorff's alpha, ordinal": scores.get("agreement") or {}}
    tables.append(grid_table("User study, agreement between raters", agreement, _keys(agreement)))
    return [table for table in tables if table.rows]


def grid_table(title: str, rows: Mapping[str, Any], keys: Iterable[str], notes: tuple[str, ...] = ()) -> Table:
    """A row a method, a column a key; a row that is no mapping (not measured yet) says so.

    Args:
        title: of the table.
        rows: method -> key -> figure.
        keys: of the columns, as ``flatten`` names them.
        notes: sentences under it.
    """
    keys = list(keys)
    lines = []
    for name, row in rows.items():
        if isinstance(row, Mapping):
            found = flatten(row)
            lines.append((words(name), *(cell(found[key]) if key in found else "" for key in keys)))
        else:
            lines.append((words(name), cell(row) if row else "not yet", *[""] * (len(keys) - 1)))
    return Table(title, ("", *(label(key) for key in keys)), tuple(lines) if keys else (), notes)


def metrics_in(rows: Mapping[str, Any]) -> list[str]:
    """The metrics that any method has, the known ones first and in their order; seconds are left out."""
    found = [key for key in _keys(rows) if key.split(_DEEPER)[0] != _SECONDS]
    return [key for key in METRICS if key in found] + [key for key in found if key not in METRICS]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name -> figure, inner names after outer ones; a mapping with a ``mean`` is a figure, as is all that is none."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "mean" not in value:
            found |= flatten(value, f"{name}{_DEEPER}")
        else:
            found[name] = value
    return found


def label(key: str) -> str:
    """How a column is headed."""
    return METRICS[key][0] if key in METRICS else words(key)


def words(key: str) -> str:
    """A key of the figures as words."""
    return key.replace("_", " ")


def cell(figure: Any) -> str:
    """A figure in words: a mean with its interval, a number, or what stands there."""
    if figure is None:
        return "-"
    if isinstance(figure, Mapping):
        low, high = figure.get("low"), figure.get("high")
        mean = _number(figure["mean"])
        return mean if low is None or high is None else f"{mean} ({_number(low)} to {_number(high)})"
    if isinstance(figure, list):
        return ", ".join(map(cell, figure))
    return _number(figure)


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def _keys(rows: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(key for row in rows.values() if isinstance(row, Mapping) for key in flatten(row)))


def _fractions(figures: Mapping[str, Any]) -> Table:
    best, native = figures.get("fraction") or {}, figures.get("fraction_native") or {}
    rows = tuple((label(key), cell(best[key]), cell(native.get(key))) for key in best)
    note = "(generated - base) / (teacher - base); a dash where the teacher's own gain is not clearly above zero."
    return Table("Fraction of the teacher's gain", ("", "chosen strengths", "strength 1"), rows, (note,))


def _paired(title: str, pairs: Mapping[str, Any]) -> Table:
    named = {key.replace("_minus_", " minus "): row for key, row in pairs.items()}
    return grid_table(title, named, metrics_in(named))


def _losses(title: str, losses: Mapping[str, Any]) -> Table:
    """A row a step from the real person down, a column a recogniser, and in words which step loses most."""
    steps = list(dict.fromkeys(step for one in losses.values() for step in one["steps"]))
    rows = {step: {name: one["steps"].get(step) for name, one in losses.items()} for step in steps}
    notes = tuple(f"{label(name).rstrip(' ↑')}: {one['says']}" for name, one in losses.items() if one["says"])
    return grid_table(title, rows, losses, notes)


def seconds_table(figures: Mapping[str, Any]) -> Table:
    """Those of each method, and those of the hypernetwork's own parts.

    Args:
        figures: of ``reports/evaluation.json``.
    """
    rows: dict[str, Any] = {}
    for name, row in figures["methods"].items():
        own = row.get(_SECONDS) if isinstance(row, Mapping) else None
        if own is not None:
            rows[name] = own if isinstance(own, Mapping) and "mean" not in own else {"all": own}
    if figures.get(_SECONDS):
        rows["the hypernetwork's parts"] = figures[_SECONDS]
    return grid_table("Seconds a person", rows, _keys(rows))


def _tried(tried: Mapping[str, Any]) -> Table:
    rows = {f"{name}, S = {strength}": row for name, by in tried.items() for strength, row in by.items()}
    note = (
        "On validation people, who are in no other table; the strength of most likeness whose prompts hold is taken, "
        "and none is tried beyond the first whose prompts do not."
    )
    return grid_table("Strengths that were tried", rows, metrics_in(rows), (note,))


def _rest(values: Mapping[str, Any]) -> Table:
    rows = tuple((words(key), cell(value)) for key, value in flatten(values).items())
    return Table("Further figures", ("", "figure"), rows)
