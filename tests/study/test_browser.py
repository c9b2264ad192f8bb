"""The study in a real browser, as a rater with a phone or a keyboard meets it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from difflora.study.pages import Pages
from difflora.study.votes import Votes
from tests.browser import ENTER, Browser, browser
from tests.served import start_study


@pytest.fixture
def address(study: Path) -> Iterator[str]:
    """Of the study, served by the command."""
    server, place = start_study(study)
    yield place
    server.terminate()
    server.wait(20)


@pytest.mark.timeout(180)
def test_rated_by_keys_on_a_phone(study: Path, address: str) -> None:
    with browser(390) as window:
        window.open(address)
        _fits(window)
        window.script("document.querySelector('form button').click()")
        assert window.arrives("/1")
        assert re.fullmatch(rf"{address}/r/[\w-]+/1", window.address)
        _fits(window)
        assert window.script("return [...document.images].map(i => i.naturalWidth > 0)") == [True, True]
        window.press("4", "3", "5", "1")
        assert window.script("return [...document.querySelectorAll('input:checked')].map(i => i.value)") == list("4351")
        window.press(ENTER)
        assert window.arrives("/2")
        window.press("4", "4")
        window.script("document.querySelector('form button').click()")
        assert window.address.endswith("/2"), "two questions are open"
        assert window.script("return document.querySelectorAll(':invalid').length") > 0
        assert window.complaints() == []
    [vote] = Votes(study / "votes.sqlite", Pages.open(study).digest).all()
    assert (vote.marks.fidelity, vote.marks.quality) == (4, 1)


def _fits(window: Browser) -> None:
    assert window.script("return document.documentElement.scrollWidth <= innerWidth")
