"""The evaluation's page in a real browser, at a desktop's and a phone's width."""

from __future__ import annotations

from pathlib import Path

import pytest

from difflora.evaluation.page import write_page
from tests.browser import browser
from tests.evaluation.test_page import reports

__all__ = ["reports"]  # a fixture

_TOO_WIDE = """
return [...document.querySelectorAll('body *')]
    .filter(one => !one.closest('.scroll') && one.getBoundingClientRect().right > innerWidth + 1)
    .map(one => one.tagName + ': ' + one.textContent.slice(0, 40))
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_and_every_picture_is_there(reports: Path, width: int) -> None:
    html, _ = write_page(reports)
    with browser(width) as window:
        window.open(html.resolve().as_uri())
        assert window.script(_TOO_WIDE) == []
        assert window.script("return document.documentElement.scrollWidth <= innerWidth")
        assert window.script("return [...document.images].length") > 0
        assert window.script("return [...document.images].filter(i => i.naturalWidth == 0 && i.complete).length") == 0
        assert window.script("return document.querySelectorAll('.scroll table').length") > 0
        assert window.complaints() == []
