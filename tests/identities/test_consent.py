from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from difflora.errors import BadFile
from difflora.identities.consent import new_people, read_record

RECORD = {"identity": "v-1", "source": "sent", "licence": "form 3", "date": "2026-01-02", "pictures": ["a.jpg"]}


def _drop(incoming: Path, name: str, record: dict[str, Any] | None, *files: str) -> Path:
    folder = incoming / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_bytes(b"")
    if record is not None:
        (folder / "consent.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("change", "files", "said"),
    [
        ({"licence": ""}, ["a.jpg"], "licence"),
        ({"identity": "../x"}, ["a.jpg"], "identity"),
        ({"date": "2999-01-01"}, ["a.jpg"], "still to come"),
        ({"date": "yesterday"}, ["a.jpg"], "date"),
        ({"pictures": []}, [], "pictures"),
        ({"pictures": ["../b.jpg"]}, ["a.jpg"], "not in the folder"),
        ({}, [], "lists a.jpg, which is not in the folder"),
        ({}, ["a.jpg", "b.png"], "b.png: is not in the consent record"),
        ({"colour": 1}, ["a.jpg"], "colour"),
    ],
)
def test_records_that_say_too_little_are_refused(
    tmp_path: Path, change: dict[str, Any], files: list[str], said: str
) -> None:
    folder = _drop(tmp_path, "x", RECORD | change, *files)
    with pytest.raises(BadFile, match=said):
        read_record(folder)


def test_whoever_is_new_is_told_from_the_rest(tmp_path: Path) -> None:
    first = _drop(tmp_path, "first", RECORD, "a.jpg")
    _drop(tmp_path, "known", RECORD | {"identity": "v-0"}, "a.jpg")
    _drop(tmp_path, "second", RECORD, "a.jpg")
    _drop(tmp_path, "bare", None, "a.jpg")
    (tmp_path / "README.md").write_text("")
    found, refused = new_people(tmp_path, {"v-0"})
    assert found == {"v-1": first}
    assert set(refused) == {"second", "bare"}
    assert "put them into one folder" in refused["second"]
    assert "without a consent record" in refused["bare"]
    assert new_people(tmp_path / "none", set()) == ({}, {})
