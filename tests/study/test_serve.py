"""A real server, killed in the middle of voting."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from difflora.errors import BadParameter
from difflora.study.pages import Pages
from difflora.study.serve import serve
from difflora.study.votes import Votes

RATERS = 3


def _start(study: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "difflora.cli", "study", "serve", str(study), "--port", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    line = server.stdout.readline()
    found = re.match(r"http://127\.0\.0\.1:\d+", line)
    assert found, line
    return server, found[0]


def test_no_vote_that_was_acknowledged_is_lost_when_the_server_is_killed(study: Path) -> None:
    server, address = _start(study)
    stored: dict[str, dict[int, int]] = {}
    enough = threading.Barrier(RATERS + 1)

    def rate(place: int) -> None:
        told = 0
        with httpx.Client(base_url=address, timeout=30) as client:
            path = client.post("/begin").headers["location"]
            own = stored.setdefault(path, {})
            try:
                # Round and round, changing votes, until the server is gone.
                for turn in range(10_000):
                    number, mark = turn % 18 + 1, (turn + place) % 5 + 1
                    marks = dict.fromkeys(("fidelity", "plausibility", "alignment", "quality"), str(mark))
                    client.post(f"{path}/{number}", data=marks).raise_for_status  # noqa: B018 - 303 is no error
                    own[number] = mark
                    told += 1
                    if told == 5:
                        enough.wait(60)
            except httpx.TransportError:
                return
        raise AssertionError("the server was never killed")

    threads = [threading.Thread(target=rate, args=(place,)) for place in range(RATERS)]
    try:
        for thread in threads:
            thread.start()
        enough.wait(60)  # all of them are voting
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait(30) == -signal.SIGKILL
    finally:
        server.kill()
        for thread in threads:
            thread.join(60)
    assert len(stored) == RATERS

    server, address = _start(study)
    try:
        pages = Pages.open(study)
        votes = Votes(study / "votes.sqlite", pages.digest, new=False)
        for path, own in stored.items():
            token = path.removeprefix("/r/")
            items = [item.id for item in pages.of_rater(token)]
            known = votes.of(votes.rater(token) or 0)
            assert len(own) >= 5
            for number, mark in own.items():
                found = known[items[number - 1]].fidelity
                # At most one vote of a rater, the one under way, may be there without the rater having been told.
                assert found == mark or number == _under_way(own, number), (number, mark, found)
            assert len(known) - len(own) in (0, 1)
            answer = httpx.get(f"{address}{path}", timeout=30)
            assert answer.status_code == 303, "the rater goes on"
    finally:
        server.kill()
        server.wait(30)


def _under_way(own: dict[int, int], number: int) -> int:
    return number if own else 0


def test_an_address_that_is_taken_is_named(study: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadParameter, match=rf"127\.0\.0\.1:{port}: cannot be listened on"):
            serve(study, "127.0.0.1", port, ready=lambda address: None)
    with pytest.raises(BadParameter, match="cannot be listened on"):
        serve(study, "256.0.0.1", 0, ready=lambda address: None)
