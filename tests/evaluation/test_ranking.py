from __future__ import annotations

from typing import Any

import pytest

from difflora.evaluation.ranking import rank


def _people(**scores: dict[str, list[float | None]]) -> dict[str, Any]:
    return {"people": ["a", "b", "c", "d"], "best": scores}


BASE = {"face_sim": [0.5, 0.5, 0.5, 0.5], "face_sim_independent": [0.1, 0.1, 0.1, 0.1]}
MADE = {"face_sim": [0.9, 0.8, 0.7, 0.6], "face_sim_independent": [0.0, 0.3, 0.2, 0.3]}


def test_the_independent_recogniser_ranks_where_there_is_one() -> None:
    ranking = rank(_people(base=BASE, generated=MADE))
    assert ranking.recogniser == "face_sim_independent"
    assert [one.person for one in ranking.gains] == ["b", "d", "c", "a"], "equal ones by name"
    assert ranking.gains[0].gain == pytest.approx(0.2)
    assert ranking.gains[-1].gain == pytest.approx(-0.1)


def test_else_the_pack_does() -> None:
    alone = {"face_sim": MADE["face_sim"]}
    ranking = rank(_people(base=BASE, generated=alone))
    assert ranking.recogniser == "face_sim"
    assert [one.person for one in ranking.gains] == ["a", "b", "c", "d"]


def test_nobody_is_a_success_and_a_failure() -> None:
    ranking = rank(_people(base=BASE, generated=MADE))
    assert [one.person for one in ranking.successes(3)] == ["b", "d", "c"]
    assert [one.person for one in ranking.failures(3)] == ["a"]
    assert [one.person for one in ranking.failures(1)] == ["a"], "the worst first"
    assert [one.person for one in ranking.failures(2)] == ["a", "c"]
    assert not ranking.successes(0)


def test_a_person_without_a_figure_is_not_ranked() -> None:
    made: dict[str, list[float | None]] = {"face_sim": [0.9, None, 0.7, 0.6]}
    assert [one.person for one in rank(_people(base=BASE, generated=made)).gains] == ["a", "c", "d"]


def test_without_both_methods_nobody_is_ranked() -> None:
    assert rank(_people(base=BASE)).recogniser is None
    assert rank({"people": ["a"], "best": {"base": None, "generated": {}}}).gains == ()
