from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from difflora.corpus.base import FrozenBase
from difflora.corpus.commands import corpus
from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.errors import BadFile, BadParameter


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(corpus, [str(argument) for argument in arguments])


def test_build_verify_and_stats(
    tmp_path: Path, base: FrozenBase, make_people: Callable[..., PeopleFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difflora.corpus.allocator.keep_freed_memory", lambda: True)  # it lasts for the process
    make_people(tmp_path / "people", 3, images=2)
    base.pipeline.save_pretrained(tmp_path / "model")
    (tmp_path / "settings.json").write_text('{"steps": 9, "rank": 2, "lr": 0.01}')
    out, people, model = tmp_path / "corpus", tmp_path / "people", tmp_path / "model"
    options = ["--settings", tmp_path / "settings.json", "--steps", 1, "--people-at-once", 2, "--base-name", "tiny"]
    done = _run("build", out, "--people", people, "--base", model, *options, "--target", "attn2.to_k", "--count", 2)
    assert done.exit_code == 0, done.output
    assert "2 LoRAs, 2 of them new" in done.output
    made = Corpus.open(out)
    assert made.settings["dreambooth"]["steps"] == 1
    assert made.settings["base"]["name"] == "tiny"
    assert made.layout.rank == 2
    assert all(module.name.endswith("attn2.to_k") for module in made.layout.modules)
    verified = _run("verify", out)
    assert verified.exit_code == 0
    assert f"2 LoRAs of {made.layout.size} parameters are as they were written" in verified.output
    stats = _run("stats", out, "--json", tmp_path / "stats.json")
    assert stats.exit_code == 0
    assert "least, quartiles, most" in stats.output
    assert json.loads((tmp_path / "stats.json").read_text())["rows"] == 2


def test_mistakes_are_errors_of_ours(tmp_path: Path, people: PeopleFolder) -> None:
    needed = ["--people", people.folder, "--base", tmp_path / "nowhere"]
    for arguments, kind, said in (
        (["build", tmp_path / "out", *needed], BadFile, "nowhere: no base model here"),
        (["build", tmp_path / "out", *needed, "--dtype", "fp8"], BadParameter, "dtype is 'fp8'"),
        (["build", tmp_path / "out", *needed, "--rank", 0], BadParameter, "rank is 0"),
        (["build", tmp_path / "out", *needed, "--settings", tmp_path / "no.json"], BadFile, "no.json"),
        (["build", tmp_path / "out", "--people", tmp_path, "--base", tmp_path], BadFile, "people.json: no such file"),
        (["verify", tmp_path / "none"], BadFile, "corpus.json: no such file"),
        (["stats", tmp_path / "none"], BadFile, "corpus.json: no such file"),
    ):
        failed = _run(*arguments)
        assert isinstance(failed.exception, kind), failed.output
        assert said in str(failed.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["build", "verify", "stats"])
def test_every_command_has_an_example(command: str) -> None:
    assert f"Example: difflora corpus {command}" in _run(command, "--help").output
