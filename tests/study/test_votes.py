from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from difflora.errors import BadFile
from difflora.study.votes import Marks, Votes

GOOD = Marks(fidelity=1, plausibility=2, alignment=3, quality=4)
BETTER = Marks(fidelity=5, plausibility=5, alignment=5, quality=5)


@pytest.fixture
def votes(tmp_path: Path) -> Votes:
    return Votes(tmp_path / "votes.sqlite", "study")


def test_a_vote_is_there_when_the_file_is_opened_again(votes: Votes, tmp_path: Path) -> None:
    token = votes.begin()
    rater = votes.rater(token)
    assert rater is not None
    votes.cast(rater, "a", GOOD)
    again = Votes(tmp_path / "votes.sqlite", "study", new=False)
    assert again.rater(token) == rater
    assert again.of(rater) == {"a": GOOD}


def test_one_vote_a_rater_and_item_and_the_last_one_counts(votes: Votes) -> None:
    first, second = (votes.rater(votes.begin()) or 0 for _ in range(2))
    assert first != second
    votes.cast(first, "a", GOOD)
    votes.cast(first, "a", BETTER)
    votes.cast(second, "a", GOOD)
    votes.cast(first, "b", GOOD)
    assert [(vote.rater, vote.item, vote.marks) for vote in votes.all()] == [
        (first, "a", BETTER),
        (first, "b", GOOD),
        (second, "a", GOOD),
    ]


def test_tokens_are_not_in_the_file(votes: Votes, tmp_path: Path) -> None:
    token = votes.begin()
    assert len(token) >= 20
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    assert votes.rater("never given") is None
    assert votes.rater("") is None


def test_the_file_is_durable_and_takes_no_nonsense(votes: Votes, tmp_path: Path) -> None:
    file = sqlite3.connect(tmp_path / "votes.sqlite")
    assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()
    with pytest.raises(sqlite3.IntegrityError):
        votes.cast(99, "a", GOOD)
    rater = votes.rater(votes.begin()) or 0
    with pytest.raises(sqlite3.IntegrityError):
        votes.cast(rater, "a", Marks.model_construct(fidelity=6, plausibility=1, alignment=1, quality=1))
    assert not votes.all()
    for wrong in (0, 6, "x", None):
        with pytest.raises(ValidationError):
            Marks.model_validate({"fidelity": wrong, "plausibility": 1, "alignment": 1, "quality": 1})


def test_many_at_once(votes: Votes) -> None:
    raters = [votes.rater(votes.begin()) or 0 for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job: votes.cast(job[0], job[1], GOOD), [(r, f"i{n}") for r in raters for n in range(10)]))
    assert len(votes.all()) == 40


def test_files_that_are_none(tmp_path: Path) -> None:
    Votes(tmp_path / "votes.sqlite", "study")
    with pytest.raises(BadFile, match="holds votes on other pages"):
        Votes(tmp_path / "votes.sqlite", "another")
    (tmp_path / "text.sqlite").write_text("no database" * 100)
    with pytest.raises(BadFile, match=r"text\.sqlite: is no file of votes"):
        Votes(tmp_path / "text.sqlite", "study")
    with pytest.raises(BadFile, match="nobody has voted yet"):
        Votes(tmp_path / "none.sqlite", "study", new=False)
    assert not (tmp_path / "none.sqlite").exists()
