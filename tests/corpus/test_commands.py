from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from difflora.corpus.base import FrozenBase
from difflora.corpus.commands import corpus
from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.corpus.start import read_start
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


def test_a_start_is_learnt_and_loras_begin_there(
    tmp_path: Path, base: FrozenBase, make_people: Callable[..., PeopleFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difflora.corpus.allocator.keep_freed_memory", lambda: True)  # it lasts for the process
    make_people(tmp_path / "people", 3, images=2)
    base.pipeline.save_pretrained(tmp_path / "model")
    start = tmp_path / "start.safetensors"
    settings = {"steps": 2, "rank": 2, "lr": 0.01, "targets": ["attn2.to_k"], "freeze_a": True}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "with.json").write_text(json.dumps(settings | {"start": str(start)}))
    needed = ["--people", tmp_path / "people", "--base", tmp_path / "model", "--base-name", "tiny", "--settings"]
    done = _run("start", start, *needed, tmp_path / "settings.json", "--episodes", 2, "--people-at-once", 1)
    assert done.exit_code == 0, done.output
    assert "the loss of the last episode is" in done.output
    built = _run("build", tmp_path / "corpus", *needed, tmp_path / "with.json")
    assert built.exit_code == 0, built.output
    made = Corpus.open(tmp_path / "corpus")
    of_a = made.layout.factor_places[0]
    learnt = read_start(start, made.layout, base.name, 1.0)
    rows = made.rows(range(len(made)))
    assert torch.allclose(rows.float()[:, of_a], learnt[of_a].half().float())
    few = _run("start", start, *needed, tmp_path / "settings.json", "--people-at-once", 9)
    assert isinstance(few.exception, BadParameter)


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
