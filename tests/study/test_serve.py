"""A real server, killed in the middle of voting."""

from __future__ import annotations

import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from difflora.errors import BadParameter
from difflora.study.pages import QUESTIONS, Pages
from difflora.study.serve import serve
from difflora.study.votes import Votes
from tests.served import start_study

RATERS = 3


@dataclass
class _Told:
    """What one rater knows.

    Attributes:
        path: the rater's address.
        stored: page -> mark that the server said it has.
        sent: page and mark of the vote under way when the server went.
    """

    path: str = ""
    stored: dict[int, int] = field(default_factory=dict)
    sent: tuple[int, int] = (0, 0)


def _rate_until_killed(address: str, place: int, voting: threading.Barrier) -> _Told:
    told = _Told()
    with httpx.Client(base_url=address, timeout=30) as client:
        told.path = client.post("/begin").headers["location"]
        for turn in range(10_000):  # round and round, changing votes
            number, mark = turn % 18 + 1, (turn + turn // 18 + place) % 5 + 1
            told.sent = (number, mark)
            try:
                answer = client.post(f"{told.path}/{number}", data=dict.fromkeys(QUESTIONS, str(mark)))
            except httpx.TransportError:
                return told
            assert answer.status_code == 303
            told.stored[number] = mark
            if turn == 20:
                voting.wait(60)
    raise AssertionError("the server was never killed")


def test_no_vote_that_was_acknowledged_is_lost_when_the_server_is_killed(study: Path) -> None:
    server, address = start_study(study)
    voting = threading.Barrier(RATERS + 1)
    with ThreadPoolExecutor(RATERS) as pool:
        try:
            raters = [pool.submit(_rate_until_killed, address, place, voting) for place in range(RATERS)]
            voting.wait(60)
        finally:
            server.send_signal(signal.SIGKILL)
            assert server.wait(30) == -signal.SIGKILL
        told = [rater.result(60) for rater in raters]

    server, address = start_study(study)
    try:
        pages = Pages.open(study)
        votes = Votes(study / "votes.sqlite", pages.digest, new=False)
        for one in told:
            items = [item.id for item in pages.of_rater(one.path.removeprefix("/r/"))]
            known = votes.of(votes.rater(one.path.removeprefix("/r/")) or 0)
            assert len(one.stored) == 18
            assert set(known) == set(items)
            for number, mark in one.stored.items():
                found = known[items[number - 1]].fidelity
                # The vote under way may be there though the rater was not told.
                assert found == mark or (number, found) == one.sent
            assert httpx.get(f"{address}{one.path}", timeout=30).headers["location"] == f"{one.path}/done"
    finally:
        server.kill()
        server.wait(30)


def test_an_address_that_is_taken_is_named(study: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadParameter, match=rf"127\.0\.0\.1:{port}: cannot be listened on"):
            serve(study, "127.0.0.1", port, ready=lambda address: None)
    with pytest.raises(BadParameter, match="cannot be listened on"):
        serve(study, "256.0.0.1", 0, ready=lambda address: None)
