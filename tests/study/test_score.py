from __future__ import annotations

from pathlib import Path

import pytest

from difflora.errors import BadFile, BadParameter
from difflora.study.build import Key, Origin
from difflora.study.pages import QUESTIONS, Pages
from difflora.study.score import score, score_study
from difflora.study.votes import Marks, Vote, Votes


def _marks(value: int) -> Marks:
    return Marks(fidelity=value, plausibility=value, alignment=6 - value, quality=3)


def _origin(method: str, person: str) -> Origin:
    return Origin(method=method, person=person, prompt="a man", seed=0)


ORIGINS = {
    "b1": _origin("base", "p1"),
    "b2": _origin("base", "p2"),
    "g1": _origin("generated", "p1"),
    "g2": _origin("generated", "p2"),
    "t1": _origin("teacher", "p1"),
}


def _votes(*rows: tuple[int, str, int]) -> list[Vote]:
    return [Vote(rater, item, _marks(value)) for rater, item, value in rows]


def test_means_by_hand() -> None:
    found = score(
        _votes((1, "b1", 1), (2, "b1", 2), (1, "b2", 3), (1, "g1", 5), (2, "g1", 4), (2, "g2", 4), (1, "t1", 5)),
        ORIGINS,
    )
    # Base: p1 has (1 + 2) / 2 = 1.5, p2 has 3: mean 2.25, not the 2 of all votes. Raters: (1 + 3) / 2 = 2 and 2.
    base = found["methods"]["base"]
    assert base["fidelity"]["mean"] == 2.25
    assert base["alignment"]["mean"] == 3.75
    assert (base["fidelity"]["low"], base["fidelity"]["high"]) == (1.5, 3.0), "two people: one or the other twice"
    assert found["methods_over_raters"]["base"]["fidelity"] == {"mean": 2.0, "low": 2.0, "high": 2.0}
    # Generated: p1 4.5, p2 4; minus base 3 and 1.
    assert found["methods"]["generated"]["fidelity"]["mean"] == 4.25
    assert found["paired"]["generated_minus_base"]["fidelity"] == {"mean": 2.0, "low": 1.0, "high": 3.0}
    # The teacher has one person and one rater: no interval. The pair is over p1 alone.
    assert found["methods"]["teacher"]["fidelity"] == {"mean": 5.0, "low": None, "high": None}
    assert found["paired"]["generated_minus_teacher"]["fidelity"] == {"mean": -0.5, "low": None, "high": None}
    assert found["votes_on"] == {"base": 3, "generated": 3, "teacher": 1}
    assert (found["raters"], found["votes"], found["items"], found["items_of_all"]) == (2, 7, 5, 5)


def test_agreement_is_over_pictures_of_all_methods() -> None:
    found = score(_votes((1, "b1", 1), (2, "b1", 1), (1, "b2", 1), (2, "b2", 2), (1, "g1", 5)), ORIGINS)
    assert found["agreement"]["fidelity"] == pytest.approx(0.0, abs=1e-9), "as by hand in test_alpha"
    assert found["agreement"]["alignment"] == pytest.approx(0.0, abs=1e-9)
    assert found["agreement"]["quality"] is None, "everyone gave 3"


def test_methods_without_votes_and_without_ours() -> None:
    found = score(_votes((1, "b1", 2), (1, "t1", 4)), ORIGINS)
    assert list(found["methods"]) == ["base", "teacher"]
    assert found["paired"] == {}
    assert found["votes_on"]["generated"] == 0
    apart = score(_votes((1, "b2", 2), (1, "g1", 4)), ORIGINS)
    assert apart["paired"] == {}, "no person has both"


def test_a_whole_study(study: Path) -> None:
    pages = Pages.open(study)
    key = Key.open(study, pages)
    votes = Votes(study / "votes.sqlite", pages.digest)
    with pytest.raises(BadParameter, match="holds no votes yet"):
        score_study(study)
    level = {"base": 1, "generated": 4, "teacher": 5}
    for _ in range(3):
        rater = votes.rater(votes.begin()) or 0
        for item in pages.items:
            votes.cast(rater, item.id, _marks(level[key.items[item.id].method]))
    found = score_study(study)
    assert {name: row["fidelity"]["mean"] for name, row in found["methods"].items()} == level
    assert found["agreement"]["fidelity"] == 1.0
    assert found["paired"]["generated_minus_teacher"]["plausibility"] == {"mean": -1.0, "low": -1.0, "high": -1.0}
    assert set(found["methods"]["base"]) == set(QUESTIONS)
    assert found["study"] == pages.digest
    (study / "key.json").unlink()
    with pytest.raises(BadFile, match=r"key\.json"):
        score_study(study)
