"""Repeated pictures and people: refused by file, merged, dropped or kept; by vectors alone, no picture is drawn."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.errors import BadImage
from difflora.identities.look import Seen
from difflora.identities.photographs import Portrait
from difflora.identities.screen import Known, Plan, plan_of
from difflora.identities.screen_settings import Repeated, ScreenSettings

NOBODY = Known([], torch.empty(0, 8))


def _near(axis: int, count: int, dimension: int = 8) -> Tensor:
    """Unit vectors near an axis."""
    noise = torch.randn(count, dimension, generator=torch.Generator().manual_seed(axis))
    return F.normalize(torch.eye(dimension)[axis] + 0.03 * noise, dim=1)


def _person(name: str, axis: int, *pictures: int, faults: dict[str, str] | None = None) -> Seen:
    """Somebody whose face is an axis, and whose pictures look like other axes."""
    portraits = tuple(Portrait(Path(f"{name}/{place}.png"), None, (0, 0, 9, 9)) for place in range(len(pictures)))
    small = torch.eye(20)[list(pictures)].reshape(len(pictures), 20)
    return Seen(portraits, _near(axis, len(pictures)), small, faults or {})


def _plan(repeated: Repeated, known: Known = NOBODY, **seen: Seen) -> Plan:
    return plan_of(seen, ScreenSettings(repeated=repeated), known)


def _files(plan: Plan) -> dict[str, list[str]]:
    return {identity: [str(one.path) for one in ones] for identity, ones in plan.portraits.items()}


SEEN = {
    "anna": _person("anna", 0, 0, 1, 0),  # the third picture is the first
    "bert": _person("bert", 1, 2, 3),
    "carl": _person("carl", 0, 4, 1),  # anna again; the second picture is her second one
    "dora": _person("dora", 2, 0),  # another face on a picture that looks like anna's first
}


def test_repeats_are_refused_by_file() -> None:
    with pytest.raises(BadImage) as caught:
        _plan("refuse", **SEEN)
    said = str(caught.value)
    assert said.startswith("3 repeats: ")
    assert "anna/0.png and anna/2.png are the same picture (1.000)" in said
    assert "anna/1.png and carl/1.png are the same picture (1.000)" in said
    assert "anna and carl are the same person" in said
    assert "dora" not in said, "alike from afar, but the faces differ"
    assert "set screen.repeated to merge, drop or keep" in said
    plan = _plan("refuse", bert=SEEN["bert"], dora=SEEN["dora"])
    assert _files(plan) == {"bert": ["bert/0.png", "bert/1.png"], "dora": ["dora/0.png"]}
    assert plan.passed_over == {}


def test_merged_people_have_each_picture_once() -> None:
    plan = _plan("merge", **SEEN)
    assert _files(plan)["anna"] == ["anna/0.png", "anna/1.png", "carl/0.png"]
    assert list(plan.portraits) == ["anna", "bert", "dora"]
    assert plan.passed_over == {"carl": {"skipped": "merged into anna", "same_as": "anna"}}
    left_out = {
        "anna/2.png": "is the same picture as anna/0.png",
        "carl/1.png": "is the same picture as anna/1.png",
    }
    assert plan.facts["anna"] == {"merged": ["carl"], "left_out": left_out}
    assert plan.facts["bert"] == {}


def test_the_first_one_stays_where_the_others_are_dropped() -> None:
    plan = _plan("drop", **SEEN)
    assert _files(plan)["anna"] == ["anna/0.png", "anna/1.png"]
    assert plan.passed_over == {"carl": {"skipped": "the same person as anna", "same_as": "anna"}}
    assert "merged" not in plan.facts["anna"]


def test_kept_repeats_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        plan = _plan("keep", **SEEN)
    assert {name: len(files) for name, files in _files(plan).items()} == {"anna": 3, "bert": 2, "carl": 2, "dora": 1}
    assert plan.passed_over == {}
    assert "anna and carl are the same person" in caplog.text


@pytest.mark.parametrize("repeated", ["merge", "drop"])
def test_whoever_is_there_already_is_never_changed(repeated: Repeated) -> None:
    known = Known(["zora", "yves"], torch.cat([_near(5, 1), _near(0, 1)]))
    plan = _plan(repeated, known, **SEEN)
    assert list(plan.portraits) == ["bert", "dora"]
    for name in ("anna", "carl"):
        assert plan.passed_over[name]["same_as"] == "yves"
        assert "yves, who is there already and is never changed" in plan.passed_over[name]["skipped"]
    with pytest.raises(BadImage, match=r"anna is the same person as yves, who is there \(0\.9\d+\): see anna/0\.png"):
        _plan("refuse", known, **SEEN)


def test_people_without_a_usable_photograph_are_passed_over_with_the_reason() -> None:
    faults = {"emil/0.png": "emil/0.png: no face found"}
    plan = _plan("refuse", emil=_person("emil", 3, faults=faults), bert=_person("bert", 1, 2, faults={"b": "b: tiny"}))
    assert plan.passed_over == {"emil": {"skipped": "no usable photograph: emil/0.png: no face found"}}
    assert plan.facts["bert"] == {"left_out": {"b": "b: tiny"}}
    assert _plan("refuse", emil=_person("emil", 3, faults=faults)).portraits == {}


def test_many_strangers_take_little_memory_and_no_pair() -> None:
    count, dimension = 3000, 64
    faces = F.normalize(torch.randn(count, dimension, generator=torch.Generator().manual_seed(0)), dim=1)
    small = F.normalize(torch.randn(count, 40, generator=torch.Generator().manual_seed(1)), dim=1)
    faces[2999] = faces[17]
    seen = {f"p{n}": Seen((Portrait(Path(f"{n}.png")),), faces[n : n + 1], small[n : n + 1], {}) for n in range(count)}
    plan = plan_of(seen, ScreenSettings(repeated="drop"), Known([], torch.empty(0, dimension)))
    assert list(plan.passed_over) == ["p2999"]
    assert plan.passed_over["p2999"]["same_as"] == "p17"
