from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from difflora.cli import main
from difflora.errors import BadFile
from difflora.world import commands


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_help_is_quick_and_names_the_commands() -> None:
    best = 9.0
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "difflora.cli", "--help"], capture_output=True, text=True, check=True
        )
        best = min(best, time.perf_counter() - started)
    assert "world" in done.stdout
    assert best < 3  # a tenth of that on an idle machine; importing torch alone would be over it on a busy one


@pytest.mark.parametrize("command", ["render", "train", "verify", "sheet", "manifest"])
def test_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("world", command, "--help") == 0
    assert f"Example: difflora world {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["foo"], "No such command 'foo'"),
        (["world"], "Missing command"),
        (["world", "render"], "Missing argument 'OUT'"),
        (["world", "render", "x", "--people", "many"], "--people"),
        (["world", "render", "x", "--people", "0"], "people is 0"),
        (["world", "render", "x", "--seed", "-1"], "seed is -1"),
        (["world", "train", "nobody"], "no model is named 'nobody'"),
        (["world", "train", "vae", "--time-limit", "0"], "time limit is 0"),
        (["world", "verify", "nobody"], "no model is named 'nobody'"),
        (["world", "verify", "--seed", "1"], "seed 1 drew the training pictures"),
        (["world", "verify", "--count", "0"], "count is 0"),
        (["world", "verify", "--assets", "nowhere"], "nowhere: no files of detector"),
        (["world", "manifest", "--assets", "nowhere"], "nowhere/MANIFEST.json: no such file"),
        (["world", "sheet", "x.jpg"], "x.jpg"),
        (["world", "sheet", "x.png", "--assets", "nowhere"], "nowhere/base: no base model"),
        (["world", "sheet", "x.png", "--columns", "0"], "0 pictures"),
        (["world", "sheet", "x.png", "--prompt", " "], "prompt is empty"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.startswith("difflora: ")
    assert shown.err.count("\n") == 1
    assert not shown.out
    assert not list(tmp_path.iterdir())


def test_errors_of_ours_come_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BadFile("a.bin: truncated;\nmake it again")

    monkeypatch.setattr("difflora.world.manifest.check_manifest", broken)
    assert run("world", "manifest") == 2
    assert capsys.readouterr().err == "difflora: a.bin: truncated; make it again\n"


def test_render_writes_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "people"
    assert run("world", "render", str(out), "--people", "2", "--images", "3", "--seed", "4") == 0
    assert "6 pictures of 2 people" in capsys.readouterr().out
    assert len(list(out.glob("*/*.png"))) == 6
    assert len([json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]) == 6


def test_sheet_of_renders(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert run("world", "sheet", str(out), "--renders", "--people", "2", "--columns", "2") == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_defaults_are_the_repositorys_folders() -> None:
    assert Path("assets/embedded") == commands.ASSETS
    assert Path("data/world") == commands.WORK
