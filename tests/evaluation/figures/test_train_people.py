from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from difflora.errors import BadFile
from difflora.evaluation.figures.train_people import draw_growth, read_growth

Around = Callable[[float], dict[str, float]]


def _row(around: Around, people: int, **scores: float) -> dict[str, Any]:
    return {"people": people, "agreement": around(0.9), **{key: around(value) for key, value in scores.items()}}


def test_rows_become_lines_in_order_of_people(around: Around, opened: Callable[..., Any]) -> None:
    rows = [_row(around, 80, face_sim=0.4), _row(around, 20, face_sim=0.2)]
    growth = read_growth({"train_people": rows, "rows": {}})
    assert growth.counts == [20, 80]
    assert list(growth.lines) == ["face_sim"]
    assert [one["mean"] for one in growth.lines["face_sim"]] == [0.2, 0.4]
    drawing = draw_growth(growth)
    assert "0.200 (0.150 to 0.250) with 20 people to 0.400 (0.350 to 0.450) with 80" in drawing.caption
    opened(drawing)


def test_what_lacks_something_is_refused(around: Around) -> None:
    one, other = _row(around, 20, face_sim=0.2), _row(around, 40, face_sim=0.3, face_sim_independent=0.2)
    for bad in (
        {},
        {"train_people": []},
        {"train_people": [one]},
        {"train_people": [one, one]},
        {"train_people": [one, other]},
        {"train_people": [_row(around, 20), _row(around, 40)]},
        {"train_people": [one, {"people": 40, "face_sim": {"mean": 0.3}}]},
        {"train_people": [one, 3]},
    ):
        with pytest.raises(BadFile, match=r"a\.json: train_people is no list of rows.*difflora ablate people"):
            read_growth(bad, "a.json")
    whole = [_row(around, 20, face_sim=0.1, face_sim_independent=0.1), other]
    assert list(read_growth({"train_people": whole}).lines) == ["face_sim", "face_sim_independent"]
