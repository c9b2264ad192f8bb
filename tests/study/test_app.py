"""The site through HTTP, its pages read as HTML; no browser is asked."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

from difflora.study.app import make_app
from difflora.study.build import build_study
from difflora.study.pages import QUESTIONS, Pages
from difflora.study.votes import Votes
from tests.html import Page
from tests.kept import METHODS, make_gallery

MARKS = {"fidelity": "4", "plausibility": "3", "alignment": "5", "quality": "1"}


@pytest.fixture
def votes(study: Path) -> Votes:
    return Votes(study / "votes.sqlite", Pages.open(study).digest)


@pytest.fixture
def client(study: Path, votes: Votes) -> TestClient:
    return TestClient(make_app(Pages.open(study), votes))


def _begin(client: TestClient) -> str:
    """Begins, and gives the address of the first page."""
    answer = client.post("/begin")
    assert answer.status_code == 200
    assert re.fullmatch(r"/r/[\w-]+/1", answer.url.path), answer.url
    return answer.url.path.removesuffix("/1")


def test_from_the_welcome_to_the_last_vote(client: TestClient, votes: Votes) -> None:
    page = Page(client.get("/").text)
    assert page.all("form", method="post", action="/begin")
    assert "18 pictures" in page.text
    address = _begin(client)
    for number in range(1, 19):
        page = Page(client.get(f"{address}/{number}").text)
        assert page.texts("h1") == [f"Picture {number} of 18"]
        assert page.all("progress") == [{"id": "progress", "value": str(number - 1), "max": "18"}]
        answer = client.post(f"{address}/{number}", data=MARKS)
        assert answer.url.path == (f"{address}/{number + 1}" if number < 18 else f"{address}/done")
    assert "All 18 are rated. Thank you!" in Page(answer.text).text
    assert len(votes.all()) == 18
    assert all(vote.marks.fidelity == 4 and vote.marks.quality == 1 for vote in votes.all())


def test_a_page_is_usable_by_keyboard_screen_reader_and_phone(client: TestClient) -> None:
    page = Page(client.get(_begin(client)).text)
    assert page.all("html", lang="en")
    assert page.all("meta", name="viewport", content="width=device-width, initial-scale=1")
    assert len(page.texts("legend")) == len(page.texts("fieldset")) == 4
    assert [legend.split(":")[0] for legend in page.texts("legend")] == [one.name for one in QUESTIONS.values()]
    radios = page.all("input", type="radio")
    assert [(radio["name"], radio["value"]) for radio in radios] == [
        (q, str(n)) for q in QUESTIONS for n in range(1, 6)
    ]
    assert all("required" in radio and "tabindex" not in radio for radio in radios), (
        "native radios: arrows and Tab work"
    )
    assert len([text for text in page.texts("label") if text in "12345"]) == 20, "each has a label of its own"
    ids = {has["id"] for _, has, _ in page.elements if "id" in has}
    assert {has["aria-describedby"] for has in page.all("fieldset")} <= ids
    assert {has["for"] for has in page.all("label") if "for" in has} <= ids
    assert [image["alt"] for image in page.all("img")] == ["Reference picture of the person", "The picture to rate"]
    assert page.texts("button") == ["Store and go on"]


def test_nothing_comes_from_elsewhere_and_nothing_tells_whose_it_is(client: TestClient) -> None:
    address = _begin(client)
    for place in ("/", f"{address}/1", f"{address}/done", "/nowhere"):
        answer = client.get(place)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        page = Page(answer.text)
        links = [has.get("src") or has.get("href") or has.get("action") for _, has, _ in page.elements]
        for link in filter(None, links):
            parts = urlsplit(link)
            assert parts.scheme in ("", "data"), link
            assert not parts.netloc, link
            if link.startswith(("/static", "/pictures")):
                assert client.get(link).status_code == 200, link
        assert not any(re.search(rf"\b{word}\b", answer.text) for word in METHODS)
    for place in ("/key.json", "/pictures/../key.json", "/pictures/%2e%2e/%2e%2e/key.json", "/pictures/", "/docs"):
        assert client.get(place).status_code == 404, place


def test_a_rater_comes_back_by_cookie_or_by_address(client: TestClient, study: Path, votes: Votes) -> None:
    address = _begin(client)
    client.post(f"{address}/1", data=MARKS)
    client.post(f"{address}/3", data=MARKS)
    assert client.get(address).url.path == f"{address}/2", "the first without a vote"
    welcome = Page(client.get("/").text)
    assert welcome.all("a", href=address)
    elsewhere = TestClient(make_app(Pages.open(study), Votes(study / "votes.sqlite", Pages.open(study).digest)))
    assert elsewhere.get(address).url.path == f"{address}/2"
    assert elsewhere.post(f"{address}/18", data=MARKS).url.path == f"{address}/2", "from the start again"
    assert "3 of 18 rated" in Page(elsewhere.get(f"{address}/done").text).text


def test_a_vote_can_be_changed(client: TestClient, votes: Votes) -> None:
    address = _begin(client)
    client.post(f"{address}/1", data=MARKS)
    page = Page(client.get(f"{address}/1").text)
    chosen = {radio["name"]: radio["value"] for radio in page.all("input") if "checked" in radio}
    assert chosen == MARKS
    assert page.texts("button") == ["Change the vote"]
    client.post(f"{address}/1", data=MARKS | {"fidelity": "2"})
    assert [vote.marks.fidelity for vote in votes.all()] == [2]


@pytest.mark.parametrize(
    ("marks", "named"),
    [
        ({"fidelity": "4", "quality": "2"}, "Plausibility, Alignment"),
        (MARKS | {"quality": "6"}, "Quality"),
        (MARKS | {"quality": "0"}, "Quality"),
        (MARKS | {"quality": "<b>"}, "Quality"),
        (MARKS | {"charm": "5"}, "every question"),
        ({}, "Fidelity, Plausibility, Alignment, Quality"),
    ],
)
def test_half_a_vote_is_not_stored_but_not_lost_either(
    marks: dict[str, str], named: str, client: TestClient, votes: Votes
) -> None:
    address = _begin(client)
    answer = client.post(f"{address}/1", data=marks)
    assert answer.status_code == 422
    page = Page(answer.text)
    alert = next(words for words in page.texts("p") if words.startswith("Nothing is stored yet"))
    assert alert.endswith(f"{named}.")
    assert page.all("p", role="alert")
    chosen = {radio["name"]: radio["value"] for radio in page.all("input") if "checked" in radio}
    assert chosen == {name: mark for name, mark in marks.items() if name in QUESTIONS and mark in "12345"}
    assert not votes.all()


def test_wrong_addresses_and_forms(client: TestClient, votes: Votes) -> None:
    address = _begin(client)
    for place in ("/r/nobody", "/r/nobody/1", "/r/nobody/done", f"{address}/0", f"{address}/19", f"{address}/x"):
        answer = client.get(place)
        assert answer.status_code == 404, place
        assert Page(answer.text).all("p", role="alert")
    assert client.post("/r/nobody/1", data=MARKS).status_code == 404
    assert client.post(f"{address}/1", content=b"x" * 5000).status_code == 413
    assert client.post(f"{address}/1", content=b"\xff").status_code == 400
    assert client.post(f"{address}/1", content="&".join(f"a{n}=1" for n in range(30))).status_code == 400
    assert not votes.all()


def test_hostile_prompts_stay_words(tmp_path: Path) -> None:
    prompt = '<script>alert(1)</script> a man " onload="x'
    pages = build_study(make_gallery(tmp_path / "kept", ["p1"], prompts=[prompt]), tmp_path / "study")
    client = TestClient(make_app(pages, Votes(tmp_path / "votes.sqlite", pages.digest)))
    page = Page(client.get(_begin(client)).text)
    assert f"The sentence: {prompt}" in page.texts("p")
    assert [script["src"] for script in page.all("script")] == ["/static/study.js"]


def test_a_part_of_the_pages_a_rater(pictures: Path, tmp_path: Path) -> None:
    pages = build_study(pictures, tmp_path / "study", per_rater=2)
    votes = Votes(tmp_path / "votes.sqlite", pages.digest)
    client = TestClient(make_app(pages, votes))
    assert "2 pictures" in Page(client.get("/").text).text
    address = _begin(client)
    for number in (1, 2):
        answer = client.post(f"{address}/{number}", data=MARKS)
    assert answer.url.path.endswith("/done")
    assert len(votes.all()) == 2
