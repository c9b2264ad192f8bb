"""The evaluation as one self-contained HTML page, and the same tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from difflora.errors import BadFile
from difflora.evaluation.figures.listing import ListedFigure, read_index
from difflora.evaluation.gallery import INDEX, Gallery
from difflora.evaluation.inline import drawing, thumbnail
from difflora.evaluation.limits import limits_of
from difflora.evaluation.markdown import markdown
from difflora.evaluation.ranking import Gain, Ranking, rank
from difflora.evaluation.tables import Table, ablation_tables, cell, label, study_tables, tables_of, words
from difflora.files import write_atomic
from difflora.folders import read_json
from difflora.pages import templates_of

SHOWN = ("base", "generated", "teacher")
"""Methods in the grids of successes and failures, a row each."""

APART = "This is made by a command of its own: it may be of an earlier model or of other people."
"""Under whatever the step evaluate did not make itself."""

EVALUATE = "run `difflora stage evaluate` first"
"""Advice where an evaluation is wanted and there is none."""

_EXTREMES, _PROMPTS = 4, 6
_DRAWINGS = (".png", ".svg")


@dataclass(frozen=True)
class Figure:
    """A drawing of ``reports/figures``.

    Attributes:
        title: of the figure.
        caption: what it shows; may be empty.
        alt: what is seen, for those who do not see it.
        file: its name there.
        source: its bytes as a ``data:`` address.
    """

    title: str
    caption: str
    alt: str
    file: str
    source: str


@dataclass(frozen=True)
class PersonGrid:
    """One person's pictures.

    Attributes:
        gain: their likeness.
        reference: the reference's ``data:`` address.
        prompts: of each column.
        rows: method and the ``data:`` addresses of its pictures.
    """

    gain: Gain
    reference: str
    prompts: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Report:
    """All that the page says.

    Attributes:
        people: how many were measured.
        facts: what was run: name and words.
        tables: of the figures, of ablations, of the user study.
        figures: drawings.
        ranking: everyone by gain.
        successes: people of the largest gains.
        failures: people of the smallest gains.
        limits: paragraphs on what all this does not show.
        missing: what was not there, in words.
        apart: what to mind of the figures.
    """

    people: int
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    ranking: Ranking
    successes: tuple[PersonGrid, ...]
    failures: tuple[PersonGrid, ...]
    limits: tuple[str, ...]
    missing: tuple[str, ...]
    apart: str


def write_page(reports: Path, extremes: int = _EXTREMES, name: str = "evaluation") -> tuple[Path, Path]:
    """Writes a page as HTML and as Markdown beside what they are made of; gives both.

    Args:
        reports: the folder of ``evaluation.json``.
        extremes: people in each of the two grids.
        name: of the two files, without an end.

    Raises:
        BadFile: if there are no figures, or a file is damaged. Whatever else is missing the page says.
        BadImage: if a kept picture is damaged.
    """
    report = gather(reports, extremes)
    page = templates_of("difflora.evaluation").get_template("evaluation.html.jinja").render(report=report, label=label)
    html, text = reports / f"{name}.html", reports / f"{name}.md"
    write_atomic(html, page.encode())
    write_atomic(text, markdown(report).encode())
    return html, text


def gather(reports: Path, extremes: int = _EXTREMES) -> Report:
    """Reads what lies in ``reports``.

    Args:
        reports: with ``evaluation.json``, and as far as they are there ``evaluation_people.json``, ``pictures``,
            ``figures``, ``ablations.json`` and ``study.json``.
        extremes: people in each of the two grids.

    Raises:
        BadFile: as ``write_page``.
    """
    place = reports / "evaluation.json"
    missing: list[str] = []
    figures = read_json(place, EVALUATE)
    try:
        tables, limits, facts = tables_of(figures), limits_of(figures), facts_of(figures)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadFile(
            f"{place}: holds no figures of an evaluation ({error!r}); run `difflora stage evaluate`"
        ) from error
    tables += _more_tables(reports / "ablations.json", ablation_tables, "difflora ablate", missing)
    how = f"difflora study score STUDY --out {reports / 'study.json'}"
    tables += _more_tables(reports / "study.json", study_tables, how, missing)
    ranking = _ranking(reports / "evaluation_people.json", missing)
    gallery = _gallery(reports / "pictures", missing)
    return Report(
        figures["people"],
        tuple(facts),
        tuple(tables),
        tuple(_figures(reports / "figures", missing)),
        ranking,
        tuple(_grids(gallery, ranking.successes(extremes))),
        tuple(_grids(gallery, ranking.failures(extremes))),
        tuple(limits),
        tuple(missing),
        APART,
    )


def facts_of(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run, in words: whatever ``setting`` says, and how much of it."""
    facts = []
    for key, value in (figures.get("setting") or {}).items():
        inner = [f"{name} {cell(one)}" for name, one in value.items()] if isinstance(value, Mapping) else [cell(value)]
        facts.append((words(key), ", ".join(inner)))
    facts += [("people measured", cell(figures["people"])), ("prompts a person", cell(figures["prompts"]))]
    return [*facts, ("pictures a prompt", cell(figures.get("images_per_prompt", 1)))]


def _more_tables(
    place: Path, make: Callable[[dict[str, Any]], list[Table]], how: str, missing: list[str]
) -> list[Table]:
    """Tables of another file, if it is there."""
    if not place.exists():
        missing.append(f"{place.name} is not there; `{how}` makes it.")
        return []
    try:
        first, *others = make(read_json(place))
        return [replace(first, notes=(*first.notes, f"From {place.name}. {APART}")), *others]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadFile(f"{place}: cannot be shown ({error!r} is wrong in it); make it again with `{how}`") from error


def _ranking(place: Path, missing: list[str]) -> Ranking:
    if not place.exists():
        missing.append(f"Nobody is ranked: {place.name} is not there.")
        return Ranking(None, ())
    try:
        found = rank(read_json(place))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadFile(f"{place}: holds no people's figures ({error!r}); run `difflora stage evaluate`") from error
    if found.recogniser is None:
        missing.append(f"Nobody is ranked: {place.name} has no likeness of both base and generated.")
    return found


def _gallery(folder: Path, missing: list[str]) -> Gallery | None:
    if not (folder / INDEX).exists():
        missing.append(f"No pictures: {folder.name}/{INDEX} is not there.")
        return None
    return Gallery.open(folder)


def _figures(folder: Path, missing: list[str]) -> list[Figure]:
    """Those that ``index.json`` lists, in its order, then the others by name."""
    files = sorted(path.name for path in folder.glob("*") if path.suffix in _DRAWINGS) if folder.is_dir() else []
    listed = read_index(folder)
    others = [ListedFigure(file=name, title=words(Path(name).stem)) for name in files]
    entries = [*listed, *(one for one in others if one.file not in {entry.file for entry in listed})]
    found = [
        Figure(one.title, one.caption, one.alt or one.title, one.file, drawing(folder / one.file))
        for one in entries
        if one.file in files
    ]
    missing += [f"Figure {one.file} is listed but not there." for one in entries if one.file not in files]
    if not found:
        missing.append("No figures: none lies in figures/.")
    return found


def _grids(gallery: Gallery | None, gains: Sequence[Gain]) -> list[PersonGrid]:
    """Those people whose pictures were kept."""
    found = []
    for gain in gains:
        if gallery is None or gain.person not in gallery.index.people:
            continue
        scenes = gallery.scenes_of(gain.person, one_a_prompt=True)[:_PROMPTS]
        methods = [name for name in SHOWN if scenes and all(name in scene.pictures for scene in scenes)]
        found.append(
            PersonGrid(
                gain,
                thumbnail(gallery.path(gallery.index.people[gain.person].reference)),
                tuple(scene.prompt for scene in scenes),
                tuple(
                    (name, tuple(thumbnail(gallery.path(scene.pictures[name])) for scene in scenes)) for name in methods
                ),
            )
        )
    return found
