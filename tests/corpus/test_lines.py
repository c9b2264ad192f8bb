from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from difflora.corpus.lines import LineWriter, encode_line, read_lines
from difflora.errors import BadFile, DiffLoRAError

RECORDS = [{"identity": f"p{i}", "loss": i / 3, "row": i} for i in range(6)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of six lines, not sealed."""
    with LineWriter(tmp_path / "index.jsonl") as writer:
        writer.append(RECORDS[:4])
        writer.append(RECORDS[4:])
    return tmp_path / "index.jsonl"


def _seal(path: Path) -> None:
    with LineWriter(path) as writer:
        writer.seal()


def test_lines_come_back_and_are_plain_json(path: Path) -> None:
    assert read_lines(path) == RECORDS
    assert [json.loads(line)["identity"] for line in path.read_text().splitlines()] == [r["identity"] for r in RECORDS]
    assert read_lines(path.with_name("none.jsonl")) == []


@pytest.mark.parametrize("sealed", [False, True])
def test_any_changed_byte_is_found_and_its_line_named(path: Path, sealed: bool) -> None:
    if sealed:
        _seal(path)
    data, draw = path.read_bytes(), random.Random(0)
    for _ in range(200):
        place, bit = draw.randrange(len(data)), 1 << draw.randrange(8)
        changed = bytearray(data)
        changed[place] ^= bit
        path.write_bytes(changed)
        number = data[:place].count(b"\n") + 1
        with pytest.raises(BadFile, match=rf"index.jsonl: line {number}\b"):
            read_lines(path)
        if place < len(data) - 1 or sealed:
            with pytest.raises(BadFile, match=rf"index.jsonl: line {number}\b"):
                LineWriter(path)
            assert path.read_bytes() == changed, "a damaged file is not touched"


def test_every_truncation_of_a_sealed_file_is_found(path: Path) -> None:
    _seal(path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(BadFile, match=rf"index.jsonl: line {data[:length].count(10) + 1}\b"):
            read_lines(path)


def test_a_line_cut_short_by_a_kill_is_an_error_to_readers_and_mended_by_the_writer(path: Path) -> None:
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(encode_line({"identity": "p6"})[:20])
    with pytest.raises(BadFile, match=r"line 7 is cut short; run the build again"):
        read_lines(path)
    with LineWriter(path) as writer:
        assert writer.records == RECORDS
    assert path.read_bytes() == whole


def test_lines_after_the_sealed_ones_are_a_build_in_progress(path: Path) -> None:
    _seal(path)
    with LineWriter(path) as writer:
        writer.append([{"identity": "p6"}])
    assert len(read_lines(path)) == 7


def test_a_damaged_seal_is_named(path: Path) -> None:
    _seal(path)
    seal = path.with_suffix(".seal.json")
    good = seal.read_text()
    for bad in ("{}", good.replace("6", "5", 1), "not JSON", good.replace('"lines": 6', '"lines": 3')):
        seal.write_text(bad)
        with pytest.raises(BadFile, match=r"seal.json"):
            read_lines(path)


def test_one_writer_at_a_time(path: Path) -> None:
    with LineWriter(path), pytest.raises(DiffLoRAError, match="another build writes"):
        LineWriter(path)
    with LineWriter(path):
        pass


def test_numbers_that_are_not_finite_are_refused(path: Path) -> None:
    with LineWriter(path) as writer, pytest.raises(ValueError, match="JSON"):
        writer.append([{"loss": float("nan")}])
    assert read_lines(path) == RECORDS
