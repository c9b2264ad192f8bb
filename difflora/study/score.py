"""What raters said of each method (paper, Table 2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from difflora.errors import BadParameter
from difflora.evaluation.intervals import difference, interval, rounded
from difflora.study.alpha import ordinal_alpha
from difflora.study.build import Key, Origin
from difflora.study.pages import QUESTIONS, VOTES, Pages
from difflora.study.votes import Vote, Votes

OURS = "generated"
"""The method that the others are compared with."""


def score_study(study: Path, votes: Path | None = None) -> dict[str, Any]:
    """Scores a study's folder.

    Args:
        study: with pages and key.
        votes: the sqlite file; None for ``votes.sqlite`` of the folder.

    Raises:
        BadFile: if pages, key or votes are missing, or do not belong together.
        BadParameter: if nobody has voted.
    """
    pages = Pages.open(study)
    key = Key.open(study, pages)
    place = votes or study / VOTES
    cast = Votes(place, pages.digest, new=False).all()
    if not cast:
        raise BadParameter(f"{place}: holds no votes yet; there is nothing to score")
    return {"study": pages.digest, **score(cast, key.items)}


def score(votes: Sequence[Vote], origins: Mapping[str, Origin]) -> dict[str, Any]:
    """Means with 95% bootstrap intervals, and agreement.

    Keys: ``methods.<method>.<question>`` over people: a person's value is the mean of all votes on that method's
    pictures of them; ``methods_over_raters`` over raters: a rater's value is the mean of their votes on the method;
    ``paired.generated_minus_<method>`` over the people who have votes on both; each with ``mean``, ``low`` and
    ``high``, the last two null with fewer than two people or raters. ``agreement.<question>`` is Krippendorff's ordinal
    alpha over pictures, null where it cannot be told. ``votes_on.<method>`` counts.

    Args:
        votes: all of them.
        origins: item -> whose picture it is.
    """
    methods = list(dict.fromkeys(origin.method for origin in origins.values()))
    people = {method: _means(votes, origins, method, "person") for method in methods}
    raters = {method: _means(votes, origins, method, "rater") for method in methods}
    rated = [method for method in methods if people[method]]
    units: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        units[vote.item].append(vote)
    return {
        "raters": len({vote.rater for vote in votes}),
        "votes": len(votes),
        "items": len(units),
        "items_of_all": len(origins),
        "votes_on": {m: sum(origins[vote.item].method == m for vote in votes) for m in methods},
        "methods": {method: _intervals(people[method].values()) for method in sorted(rated)},
        "methods_over_raters": {method: _intervals(raters[method].values()) for method in sorted(rated)},
        "paired": {
            f"{OURS}_minus_{other}": pair
            for other in sorted(rated)
            if OURS in rated and other != OURS and (pair := _paired(people[OURS], people[other]))
        },
        "agreement": {
            name: rounded(ordinal_alpha([[getattr(vote.marks, name) for vote in unit] for unit in units.values()]))
            for name in QUESTIONS
        },
    }


_Means = dict[str, dict[str, float]]


def _means(votes: Sequence[Vote], origins: Mapping[str, Origin], method: str, over: str) -> _Means:
    """Person or rater -> question -> mean of the votes on one method."""
    found: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        origin = origins[vote.item]
        if origin.method == method:
            found[origin.person if over == "person" else str(vote.rater)].append(vote)
    return {
        who: {name: float(np.mean([getattr(vote.marks, name) for vote in own])) for name in QUESTIONS}
        for who, own in found.items()
    }


def _intervals(rows: Iterable[Mapping[str, float]]) -> dict[str, Any]:
    rows = list(rows)
    return {name: _figure(interval(np.array([row[name] for row in rows])), len(rows)) for name in QUESTIONS}


def _paired(ours: _Means, others: _Means) -> dict[str, Any]:
    both = [who for who in ours if who in others]
    if not both:
        return {}
    return {
        name: _figure(
            difference(np.array([ours[who][name] for who in both]), np.array([others[who][name] for who in both])),
            len(both),
        )
        for name in QUESTIONS
    }


def _figure(found: Mapping[str, float], count: int) -> dict[str, float | None]:
    """One person or rater alone has no interval."""
    return {key: rounded(value) if key == "mean" or count > 1 else None for key, value in found.items()}
