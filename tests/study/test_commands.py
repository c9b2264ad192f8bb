from __future__ import annotations

import json
from pathlib import Path

import pytest

from difflora.cli import main
from difflora.study.pages import Pages
from difflora.study.votes import Marks, Votes


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.parametrize("command", ["build", "serve", "score"])
def test_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("study", command, "--help") == 0
    assert f"Example: difflora study {command}" in capsys.readouterr().out


def test_build_and_score(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "study"
    options = ["--methods", "base, generated", "--people", "2", "--per-rater", "5", "--seed", "3"]
    assert run("study", "build", str(folder), "--pictures", str(pictures), *options) == 0
    assert "8 pages, 5 a rater" in capsys.readouterr().out
    pages = Pages.open(folder)
    votes = Votes(folder / "votes.sqlite", pages.digest)
    rater = votes.rater(votes.begin()) or 0
    for item in pages.of_rater("x"):
        votes.cast(rater, item.id, Marks(fidelity=3, plausibility=3, alignment=3, quality=3))
    out = tmp_path / "study.json"
    assert run("study", "score", str(folder), "--out", str(out)) == 0
    shown = capsys.readouterr().out
    assert "User study" in shown
    assert "generated" in shown
    found = json.loads(out.read_text())
    assert found["votes"] == 5
    assert set(found["methods"]) <= {"base", "generated"}
    assert not (folder / "scores.json").exists()
    assert run("study", "score", str(folder)) == 0
    assert json.loads((folder / "scores.json").read_text()) == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "s", "--pictures", "nowhere"], "nowhere: no such folder; run `difflora stage evaluate`"),
        (["build", "s", "--people", "0"], "--people"),
        (["serve", "nowhere"], "difflora study build"),
        (["serve", "nowhere", "--port", "70000"], "--port"),
        (["score", "nowhere"], "difflora study build"),
        (["score", "nowhere", "--out", "."], "give the name of a file"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("study", *arguments) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
