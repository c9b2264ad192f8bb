from __future__ import annotations

from typing import Any

import pytest

from difflora.encoders.subject import WHOLE_PICTURES
from difflora.evaluation.limits import limits_of
from difflora.evaluation.tables import METRICS, Table, cell, study_tables, tables_of


def figure(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def figures() -> dict[str, Any]:
    """As the step evaluate writes them, with what other metrics and methods may add."""
    return {
        "people": 12,
        "prompts": 6,
        "methods": {
            "base": {"agreement": figure(0.9), "face_sim": figure(0.1), "faces_found": figure(1.0)},
            "textual_inversion": {
                "face_sim": figure(0.3),
                "fid": {"mean": 431.25, "low": 400.0, "high": 460.0},
                "sharpness": 0.5,
                "seconds": {"encode": 0.1, "sample": figure(2.0)},
            },
            "instantid": None,
            "photomaker": "needs its own weights",
            "generated": {"face_sim": figure(0.5), "kid": None, "faces_found": figure(0.875)},
            "teacher": {"face_sim": figure(0.6)},
        },
        "methods_native": {"base": {"face_sim": figure(0.1)}, "generated": {"face_sim": figure(0.4)}},
        "strength": {"generated": 1.5, "teacher": 1.0},
        "strength_tried": {"generated": {"1": {"face_sim": 0.4}, "1.5": {"face_sim": 0.5}}},
        "fraction": {"face_sim": figure(0.8), "face_sim_independent": None},
        "fraction_native": {"face_sim": figure(0.6), "face_sim_independent": None},
        "paired": {"generated_minus_base": {"face_sim": figure(0.4)}},
        "paired_native": {},
        "seconds": {"encode": 0.01, "decode": 0.02},
        "reference_set": {"name": "coco", "pictures": 5000},
        "setting": {"base": "tiny"},
    }


def by_title(tables: list[Table], start: str) -> Table:
    return next(table for table in tables if table.title.startswith(start))


def test_rows_and_columns_of_the_methods() -> None:
    table = by_title(tables_of(figures()), "Methods, each")
    known = ("Face Sim ↑", "Prompts followed ↑", "FID ↓", "KID ↓", "Faces found ↑")
    assert table.columns == ("", "S", *known, "sharpness")
    assert [row[0] for row in table.rows] == [name.replace("_", " ") for name in figures()["methods"]]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["textual inversion"] == ("", "0.300 (0.200 to 0.400)", "", "431.2 (400.0 to 460.0)", "", "", "0.500")
    assert rows["instantid"] == ("", "not yet", "", "", "", "", "")
    assert rows["photomaker"][1] == "needs its own weights"
    assert rows["generated"][0] == "1.5"
    assert rows["generated"][4] == "-", "measured, and nothing came of it"
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert any("Face Sim" in note for note in table.notes)


def test_every_figure_is_in_some_table() -> None:
    tables = tables_of(figures())
    assert by_title(tables, "Fraction").rows[1] == ("Independent ↑", "-", "-")
    assert by_title(tables, "Paired").rows == (("generated minus base", "0.400 (0.300 to 0.500)"),)
    seconds = by_title(tables, "Seconds")
    assert seconds.columns == ("", "encode", "sample", "decode")
    assert seconds.rows[0] == ("textual inversion", "0.100", "2.000 (1.900 to 2.100)", "")
    assert seconds.rows[1] == ("the hypernetwork's parts", "0.010", "", "0.020")
    assert [row[0] for row in by_title(tables, "Strengths").rows] == ["generated, S = 1", "generated, S = 1.5"]
    assert by_title(tables, "Further").rows == (("reference set, name", "coco"), ("reference set, pictures", "5000"))
    assert not any(table.title.endswith("at strength 1") and "Paired" in table.title for table in tables), "none empty"


def test_the_least_that_figures_may_be() -> None:
    tables = tables_of({"people": 2, "prompts": 1, "methods": {"base": {"face_sim": 0.5}}})
    assert [table.rows for table in tables] == [(("base", "0.500"),)]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"mean": 3.25, "low": None, "high": None}, "3.250"),
        ({"mean": None, "low": None, "high": None}, "-"),
        ([1, 0.5], "1, 0.500"),
        (7, "7"),
        (-0.25, "-0.250"),
        ("x|y", "x|y"),
        (None, "-"),
    ],
)
def test_cells(value: Any, said: str) -> None:
    assert cell(value) == said


def test_study_scores() -> None:
    scores = {
        "raters": 3,
        "votes": 9,
        "items": 3,
        "methods": {"base": {"fidelity": figure(2.0)}, "generated": {"fidelity": figure(4.0)}},
        "methods_over_raters": {"base": {"fidelity": {"mean": 2.0, "low": None, "high": None}}},
        "paired": {"generated_minus_base": {"fidelity": figure(2.0)}},
        "agreement": {"fidelity": 0.75, "quality": None},
    }
    first, second, paired, agreement = study_tables(scores)
    assert "3 raters, 9 votes on 3 pictures" in first.title
    assert first.rows[1] == ("generated", "4.000 (3.900 to 4.100)")
    assert second.rows == (("base", "2.000"),)
    assert paired.rows[0][0] == "generated minus base"
    assert agreement.rows == (("Krippendorff's alpha, ordinal", "0.750", "-"),)


def test_limits_name_what_is_about_whom_and_what_is_missing() -> None:
    values = figures()
    values["setting"]["pictures"] = "module:People"
    text = " ".join(limits_of(values))
    assert "pictures from module:People and the base model tiny" in text
    assert "12 people and 6 prompts" in text
    assert "Face Sim is circular" in text
    assert "No independent recogniser was given" in text
    assert "generated 12.5%" in text
    assert "base 0.0%" not in text
    missing = text[text.index("Not measured here") :]
    assert "DINO" in missing
    assert "FID" not in missing
    for name in ("instantid", "photomaker", "retrieval"):
        assert name in missing, "a row that says not yet is not measured"
    assert "dreambooth" not in missing, "the teacher is it"
    assert "textual inversion" not in missing


def test_nothing_is_said_to_miss_where_all_is_there() -> None:
    row = {key: figure(1.0) for key in METRICS}
    names = (
        *("base", "other", "retrieval", "ridge", "mlp", "textual_inversion", "instantid", "photomaker"),
        *("reconstruction", "generated", "teacher"),
    )
    text = " ".join(limits_of({"people": 2, "prompts": 1, "methods": dict.fromkeys(names, row)}))
    assert "Not measured" not in text
    assert "without a face" not in text
    assert "counts more" in text


def test_whole_pictures_are_not_called_faces() -> None:
    told = figures() | {"setting": {"base": "tiny", "subjects": WHOLE_PICTURES}}
    tables = tables_of(told)
    first = tables[0]
    text = " ".join([*first.columns, *first.notes, *(cell for table in tables for row in table.rows for cell in row)])
    assert "Picture Sim ↑" in first.columns
    assert not [word for word in ("Face", "face pack", "face recogniser") if word in text]
    said = " ".join(limits_of(told))
    assert "Picture Sim is circular" in said
    assert "Face Sim" not in said
    assert "Face Sim ↑" in tables_of(figures())[0].columns
