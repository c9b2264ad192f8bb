from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from difflora.corpus.header import first_difference
from difflora.corpus.reader import Corpus
from difflora.corpus.stats import corpus_stats, verify_corpus
from difflora.corpus.writer import CorpusWriter, NewRow
from difflora.errors import BadFile, BadParameter, DiffLoRAError
from difflora.lora import LoraLayout

LAYOUT = LoraLayout.from_unet(nn.ModuleDict({"to_q": nn.Linear(5, 7), "to_k": nn.Linear(3, 2)}), ("to_q", "to_k"), 2)
SETTINGS = {"dreambooth": {"steps": 30, "lr": 0.1}, "people": {"seed": 1}}
COUNT = 10
GENERATOR = torch.Generator().manual_seed(0)
FLAT = torch.randn(COUNT, LAYOUT.size, generator=GENERATOR)


def new(place: int, **changes: Any) -> NewRow:
    split = ("train", "test", "train", "validation")[place % 4]
    values = {"flat": FLAT[place], "seed": 0, "images": 20, "loss": place / 7} | changes
    return NewRow(f"p{place}", split, "man", **values)  # type: ignore[arg-type]


def write(folder: Path, places: range, *, seal: bool = True, **options: Any) -> None:
    with CorpusWriter(folder, LAYOUT, SETTINGS, **({"rows_per_shard": 4} | options)) as writer:
        for start in range(places.start, places.stop, 3):
            writer.append([new(place) for place in range(start, min(start + 3, places.stop))])
        if seal:
            writer.finish()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of ten rows in three shards."""
    write(tmp_path / "corpus", range(COUNT))
    return tmp_path / "corpus"


def test_rows_come_back_by_place_identity_and_split(folder: Path) -> None:
    corpus = Corpus.open(folder)
    assert len(corpus) == COUNT
    assert corpus.layout == LAYOUT
    assert corpus[3].dtype == torch.float16
    assert torch.equal(corpus[3], FLAT[3].half())
    assert torch.equal(corpus.of("p9"), FLAT[9].half())
    assert corpus.indices("test") == [1, 5, 9]
    assert torch.equal(corpus.rows(corpus.indices("test")), FLAT[[1, 5, 9]].half().float())
    assert [entry.identity for entry, _ in corpus.iterate("validation")] == ["p3", "p7"]
    entry = corpus.entries[6]
    assert (entry.shard, entry.row, entry.images, entry.loss) == (1, 2, 20, 6 / 7)
    assert verify_corpus(corpus) == COUNT
    corpus[3].zero_()
    assert torch.equal(corpus[3], FLAT[3].half()), "a row is the reader's own"


def test_shards_are_plain_safetensors_of_fixed_size(folder: Path) -> None:
    shards = sorted((folder / "shards").iterdir())
    assert [path.name for path in shards] == ["00000.safetensors", "00001.safetensors", "00002.safetensors"]
    rows = [load_file(path)["rows"] for path in shards]
    assert all(part.shape == (4, LAYOUT.size) for part in rows)
    assert torch.equal(torch.cat(rows)[:COUNT], FLAT.half())
    assert not torch.cat(rows)[COUNT:].any()


def test_rows_in_float32_keep_every_bit(tmp_path: Path) -> None:
    write(tmp_path, range(3), dtype="fp32")
    assert torch.equal(Corpus.open(tmp_path).rows(range(3)), FLAT[:3])


def test_continuing_gives_the_bytes_of_one_go(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, range(3))
    write(other, range(3, 6), seal=False)
    write(other, range(6, COUNT))
    assert _bytes(other) == _bytes(folder)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_other_settings_are_refused_and_the_key_named(folder: Path) -> None:
    with pytest.raises(BadParameter, match=r"dreambooth.lr = 0.1, not 0.2"):
        CorpusWriter(folder, LAYOUT, {**SETTINGS, "dreambooth": {"steps": 30, "lr": 0.2}}, rows_per_shard=4)
    with pytest.raises(BadParameter, match=r"rows_per_shard = 4, not 64"):
        CorpusWriter(folder, LAYOUT, SETTINGS)
    with pytest.raises(BadParameter, match=r'dtype = "fp16", not "fp32"'):
        CorpusWriter(folder, LAYOUT, SETTINGS, rows_per_shard=4, dtype="fp32")
    other = LoraLayout.from_unet(nn.ModuleDict({"to_q": nn.Linear(5, 7)}), ("to_q",), 2)
    with pytest.raises(BadParameter, match=r"layout.modules"):
        CorpusWriter(folder, other, SETTINGS, rows_per_shard=4)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadParameter, match=r"not empty and holds no corpus.json"):
        CorpusWriter(tmp_path, LAYOUT, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_rows_are_never_replaced_and_must_fit(folder: Path) -> None:
    with CorpusWriter(folder, LAYOUT, SETTINGS, rows_per_shard=4) as writer:
        with pytest.raises(BadParameter, match="p3 already"):
            writer.append([new(3)])
        with pytest.raises(BadParameter, match=r"p99: row is \(3,\)"):
            writer.append([NewRow("p99", "train", "man", torch.zeros(3), 0, 1, 0.0)])
        with pytest.raises(DiffLoRAError, match="another build"):
            CorpusWriter(folder, LAYOUT, SETTINGS, rows_per_shard=4)


def test_rows_that_are_not_finite_in_half_precision_are_left_out(folder: Path) -> None:
    with CorpusWriter(folder, LAYOUT, SETTINGS, rows_per_shard=4) as writer:
        flat = FLAT[0].clone()
        flat[5] = 1e6
        row = NewRow("big", "train", "man", flat, 0, 1, 0.0)
        assert writer.append([row, NewRow("fine", "train", "man", FLAT[0], 0, 1, 0.0)]) == ["big"]
        writer.fail("big", "too big")
        assert {"big", "fine"} <= writer.done
    corpus = Corpus.open(folder)
    assert corpus.failures() == {"big": "too big"}
    assert corpus.entries[-1].identity == "fine"
    with CorpusWriter(folder, LAYOUT, SETTINGS, rows_per_shard=4) as writer:
        assert "big" in writer.done


def test_a_flipped_byte_in_a_row_names_file_and_row_on_first_read(folder: Path) -> None:
    draw = random.Random(1)
    header = len((folder / "shards" / "00000.safetensors").read_bytes()) - 4 * LAYOUT.size * 2
    for _ in range(30):
        place = draw.randrange(COUNT)
        path = folder / "shards" / f"{place // 4:05d}.safetensors"
        data = bytearray(path.read_bytes())
        at = header + (place % 4) * LAYOUT.size * 2 + draw.randrange(LAYOUT.size * 2)
        data[at] ^= 1 << draw.randrange(8)
        good = path.read_bytes()
        path.write_bytes(data)
        corpus = Corpus.open(folder)
        with pytest.raises(BadFile, match=rf"{path.name}: row {place % 4} \(p{place}, row {place} of"):
            verify_corpus(corpus)
        assert Corpus.open(folder, check=False)[place].shape == (LAYOUT.size,)
        path.write_bytes(good)


def test_every_flipped_byte_of_a_shards_header_is_found(folder: Path) -> None:
    path = folder / "shards" / "00001.safetensors"
    good = path.read_bytes()
    for at in range(len(good) - 4 * LAYOUT.size * 2):
        data = bytearray(good)
        data[at] ^= 4
        path.write_bytes(data)
        with pytest.raises(BadFile, match=r"00001.safetensors: its header is not that of rows 4 to 7"):
            Corpus.open(folder)


@pytest.mark.parametrize(("length", "said"), [(0, "row 4 and"), (-1, "row 7 and"), (-LAYOUT.size * 2, "row 7 and")])
def test_a_truncated_shard_names_the_first_lost_row(folder: Path, length: int, said: str) -> None:
    path = folder / "shards" / "00001.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadFile, match=rf"00001.safetensors: has .* bytes .*{said}"):
        Corpus.open(folder)


def test_a_missing_or_longer_shard_is_named(folder: Path) -> None:
    path = folder / "shards" / "00002.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadFile, match=r"00002.safetensors: .* too long"):
        Corpus.open(folder)
    path.unlink()
    with pytest.raises(BadFile, match=r"00002.safetensors: no such file, though it should hold rows 8 to 11"):
        Corpus.open(folder)


def test_a_flipped_byte_in_the_index_names_file_and_line(folder: Path) -> None:
    path, draw = folder / "index.jsonl", random.Random(2)
    good = path.read_bytes()
    for _ in range(30):
        data, at = bytearray(good), draw.randrange(len(good))
        data[at] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        with pytest.raises(BadFile, match=rf"index.jsonl: line {good[:at].count(10) + 1}\b"):
            Corpus.open(folder)


def test_any_truncation_of_the_index_is_found(folder: Path) -> None:
    path = folder / "index.jsonl"
    good = path.read_bytes()
    for length in range(0, len(good), 37):
        path.write_bytes(good[:length])
        with pytest.raises(BadFile, match=rf"index.jsonl: line {good[:length].count(10) + 1}\b"):
            Corpus.open(folder)


def test_a_changed_header_is_named(folder: Path) -> None:
    path = folder / "corpus.json"
    good = path.read_text()
    path.write_text(good.replace("0.1", "0.2"))
    with pytest.raises(BadFile, match=r"corpus.json: was changed"):
        Corpus.open(folder)
    path.write_text(json.dumps({"kind": "letters"}))
    with pytest.raises(BadFile, match=r"corpus.json: is no header of a corpus"):
        Corpus.open(folder)
    path.unlink()
    with pytest.raises(BadFile, match=r"corpus.json: no such file"):
        Corpus.open(folder)


def test_lines_of_another_corpus_are_found(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with CorpusWriter(other, LAYOUT, {"other": 1}, rows_per_shard=4) as writer:
        writer.append([new(place) for place in range(3)])
    (folder / "index.seal.json").unlink()
    (folder / "index.jsonl").write_bytes((other / "index.jsonl").read_bytes())
    with pytest.raises(BadFile, match=r"index.jsonl: line 1 is not of row 0 of this corpus"):
        Corpus.open(folder)


def test_unknown_people_places_and_splits_are_errors(folder: Path) -> None:
    corpus = Corpus.open(folder)
    with pytest.raises(BadParameter, match="'nobody'"):
        corpus.of("nobody")
    with pytest.raises(IndexError):
        corpus[COUNT]
    with pytest.raises(BadParameter, match="'holdout'"):
        corpus.indices("holdout")  # type: ignore[arg-type]


def test_stats(folder: Path) -> None:
    stats = corpus_stats(Corpus.open(folder), most=4)
    assert stats["splits"] == {"train": 5, "validation": 2, "test": 3}
    assert stats["rows"] == COUNT
    assert stats["loss"][0] == 0
    assert stats["loss"][-1] == pytest.approx(9 / 7, rel=1e-3)
    assert stats["rms"]["lora_A"] == pytest.approx(1, abs=0.2)
    json.dumps(stats, allow_nan=False)


def test_stats_of_an_empty_corpus(tmp_path: Path) -> None:
    write(tmp_path, range(0))
    assert corpus_stats(Corpus.open(tmp_path))["rows"] == 0


def test_the_first_difference_is_named_by_its_dotted_key() -> None:
    assert first_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ("a.c", 2, 3)
    assert first_difference({"a": 1}, {"a": 1, "b": None}) == ("b", "nothing", None)
    assert first_difference({"a": [1]}, {"a": [1]}) is None
