from __future__ import annotations

import json
from pathlib import Path

import pytest

from difflora.cli import main

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_the_plan_of_the_workspace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert run("plan", "--gpus", "2") == 0
    shown = capsys.readouterr().out
    for words in ("80 modules of 6 shapes", "times smaller", "identities", "register", "On 2 devices", "utilisation"):
        assert words in shown
    assert run("plan", "--preset", "embedded", "--people", "64", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["preset"] == "embedded"
    assert made["people"] == 64
    assert made["stages"][0]["name"] == "identities"
    assert made["assumptions"]["machine"] == "2 CPU cores"


def test_mistakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (
            ["--preset", "sdxxl"],
            "no preset is named 'sdxxl'; "
            "there are: embedded, embedded-photomaker, embedded-style, paper, sd15-style, sdxl",
        ),
        (["--preset", "sdxl", "--params", "params.yaml"], "--preset and --params: give one of them"),
        ([], "params.yaml: no such file"),
    ):
        assert run("plan", *arguments) == 2
        assert said in capsys.readouterr().err
