from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from difflora.errors import BadFile, BadImage
from difflora.evaluation.page import write_page
from tests.browser import browser
from tests.evaluation.test_tables import figures
from tests.html import Page
from tests.kept import make_gallery

HOSTILE = 'a man, </title><script>alert("1")</script> | **b** [x](javascript:alert(1)) {{ 7 }} "><img src=x onerror=y>'
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(2)</script></svg>'


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """All that a page may be made of."""
    folder = tmp_path / "reports"
    make_gallery(folder / "pictures", ["p1", "p2", "p3", "p4"])
    values = figures()
    values["setting"] |= {
        "preset": "embedded",
        "commit": "0123abc, with changes that are not committed",
        "model": "difflora-embedded-0123456789ab",
        "machine": "x86_64, 1 threads",
        "data": {"data/corpus": "d41d8cd9.dir", "data/people": "a1b2"},
    }
    _write(folder / "evaluation.json", values)
    scores = {"base": [0.1, 0.1, 0.1, 0.1], "generated": [0.2, 0.5, 0.05, 0.3]}
    people = {"people": ["p1", "p2", "p3", "p4"], "best": {k: {"face_sim": v} for k, v in scores.items()}}
    _write(folder / "evaluation_people.json", people)
    (folder / "figures").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "figures" / "b_curve.png")
    Image.new("RGB", (8, 8)).save(folder / "figures" / "z_extra.png")
    (folder / "figures" / "a_ladder.svg").write_text(SVG)
    captions = [
        {"file": "b_curve.png", "title": "Training curves", "caption": "Loss.", "alt": "A falling line"},
        {"file": "a_ladder.svg", "title": "The ladder", "caption": "From base to teacher"},
        {"file": "gone.png", "title": "Never drawn"},
    ]
    _write(folder / "figures" / "index.json", captions)
    return folder


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _page(reports: Path, extremes: int = 2) -> Page:
    write_page(reports, extremes)
    return Page((reports / "evaluation.html").read_text())


def test_the_page_holds_everything_and_needs_no_other_file(reports: Path) -> None:
    page = _page(reports)
    for words in ("embedded", "0123abc", "difflora-embedded-0123456789ab", "x86_64", "data/corpus d41d8cd9.dir"):
        assert words in page.text
    assert "0.500 (0.400 to 0.600)" in page.text
    assert not page.all("script")
    assert not page.all("link")
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert "http" not in re.sub(r"http-equiv", "", (reports / "evaluation.html").read_text())
    assert page.all("meta", name="viewport")
    assert page.all("html", lang="en")


def test_every_picture_has_words_and_tables_and_figures_scroll_under_a_name(reports: Path) -> None:
    page = _page(reports)
    images = page.all("img")
    assert len(images) == 3 + 4 * (1 + 3 * 2)
    assert all(image["alt"].strip() for image in images)
    assert "p2 by generated: a photo of a man, smiling" in {image["alt"] for image in images}
    regions = page.all("div", class_="scroll", role="region", tabindex="0")
    assert len(regions) == len(page.texts("table")) + len(page.all("figure"))
    assert all(region["aria-label"] for region in regions)
    assert len(page.all("th", scope="row")) >= len(figures()["methods"])
    assert page.texts("h1") == ["Evaluation on 12 people whom no model has seen"]


def test_people_and_figures_are_in_order(reports: Path) -> None:
    titles = _page(reports).texts("h3")
    assert titles[:3] == ["Training curves", "The ladder", "z extra"]
    assert [title.split(":")[0] for title in titles[3:]] == ["p2", "p4", "p3", "p1"], "the worst failure first"
    assert titles[3] == "p2: +0.400 (0.100 to 0.500)"
    assert titles[5] == "p3: -0.050 (0.100 to 0.050)"


def test_pictures_on_the_page_are_those_that_were_kept(reports: Path) -> None:
    image = next(i for i in _page(reports).all("img") if i["alt"] == "p2 by teacher: a portrait of a man, on a beach")
    data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    (reports / "shown.png").write_bytes(data)
    with Image.open(reports / "shown.png") as shown, Image.open(reports / "pictures/teacher/p2/001.png") as kept:
        assert shown.tobytes() == kept.tobytes()


def test_markdown_has_the_same_tables(reports: Path) -> None:
    page = _page(reports)
    text = (reports / "evaluation.md").read_text()
    assert "| instantid |  | not yet |" in text
    assert "| generated minus base | 0.400 (0.300 to 0.500) |" in text
    assert "![A falling line](figures/b_curve.png)" in text
    assert "| p2 | 0.400 | 0.100 | 0.500 |" in text
    plain = re.sub(r"\\(.)", r"\1", text)
    cells = {cell for cell in page.texts("td") if cell}
    assert all(cell in plain for cell in cells)
    for line in text.split("\n"):
        assert line.startswith("|") == line.endswith("|"), "a row is one line"


def test_hostile_words_stay_words(reports: Path) -> None:
    make_gallery(reports / "pictures", ["p1", "p2", "p3", "p4"], prompts=[HOSTILE])
    values = json.loads((reports / "evaluation.json").read_text())
    values["setting"]["base"] = HOSTILE
    values["methods"][HOSTILE] = {HOSTILE: 0.5}
    values[HOSTILE] = HOSTILE
    _write(reports / "evaluation.json", values)
    _write(reports / "figures" / "index.json", [{"file": "b_curve.png", "title": HOSTILE, "caption": HOSTILE}])
    page = _page(reports)
    assert not page.all("script")
    assert not [image for image in page.all("img") if image["src"] == "x" or "onerror" in image]
    assert HOSTILE in page.texts("dd")
    assert any(HOSTILE in image["alt"] for image in page.all("img"))
    text = (reports / "evaluation.md").read_text()
    assert not re.search(r"(?<!\\)<", text)
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    table = next(line for line in text.split("\n") if line.startswith("| a man"))
    columns = len(re.findall(r"(?<!\\)\|", table))
    head = text.split("\n")[text.split("\n").index(table) - 7]
    assert columns == len(re.findall(r"(?<!\\)\|", head)), "no cell breaks its row"


def test_what_is_missing_is_said(reports: Path) -> None:
    for name in ("evaluation_people.json", "pictures/index.json", "figures/a_ladder.svg"):
        (reports / name).unlink()
    for name in ("b_curve.png", "z_extra.png"):
        (reports / "figures" / name).unlink()
    page = _page(reports)
    for words in (
        "study.json is not there",
        "Nobody is ranked",
        "No pictures",
        "No figures",
        "gone.png is listed but not there",
    ):
        assert words in page.text
    assert "Successes" not in page.text
    assert "Worst failures" not in page.text
    assert not page.all("img")


def test_ablations_are_on_the_page(reports: Path) -> None:
    score = {"face_sim": {"mean": 0.4, "low": 0.3, "high": 0.5}}
    rows = {
        "full": {"says": "nothing is changed", "best": score},
        "no_wp_loss": {"says": "no WP loss", "best": score, "against": "full", "minus": score},
    }
    _write(reports / "ablations.json", {"people": 9, "rows": rows, "left_out": {"few": "too <few> people"}})
    page = _page(reports)
    assert "Ablations on 9 people, each at its best strength" in page.texts("h2")
    assert {"no wp loss: no WP loss", "no wp loss minus full"} <= set(page.texts("th"))
    assert "few was left out: too <few> people" in page.texts("p")
    assert any("From ablations.json" in note and "earlier model" in note for note in page.texts("p"))


def test_the_user_study_is_on_the_page(reports: Path) -> None:
    study = {"raters": 2, "votes": 4, "items": 2, "methods": {"base": {"fidelity": 2.5}}, "agreement": {}}
    _write(reports / "study.json", study)
    page = _page(reports)
    assert any("2 raters, 4 votes" in title for title in page.texts("h2"))
    assert "study.json is not there" not in page.text


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("evaluation.json", "{", "not readable as JSON"),
        ("evaluation.json", "{}", "holds no figures of an evaluation"),
        ("evaluation.json", '{"people": 1, "prompts": 1, "methods": [1]}', "holds no figures of an evaluation"),
        ("evaluation_people.json", '{"people": ["a"], "best": []}', "holds no people's figures"),
        ("study.json", '{"raters": 1}', "make it again with `difflora study score"),
        ("pictures/index.json", "[]", "holds no JSON object"),
        ("ablations.json", '{"people": 1}', "make it again with `difflora ablate`"),
        ("figures/index.json", "{}", "holds no list of figures"),
        ("figures/index.json", '[{"file": "x.png"}]', "holds no list of figures"),
    ],
)
def test_damaged_files_are_named_and_an_older_page_stays(reports: Path, name: str, text: str, said: str) -> None:
    (reports / "evaluation.html").write_text("older")
    (reports / name).write_text(text)
    with pytest.raises(BadFile, match=said) as raised:
        write_page(reports)
    assert name in str(raised.value)
    assert (reports / "evaluation.html").read_text() == "older"


def test_a_damaged_picture_is_named(reports: Path) -> None:
    (reports / "pictures" / "generated" / "p2" / "000.png").write_bytes(b"no picture")
    with pytest.raises(BadImage, match=r"generated/p2/000\.png"):
        write_page(reports)


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
