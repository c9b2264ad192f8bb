from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from difflora.errors import BadFile, BadParameter
from difflora.lora import canonical
from difflora.training import rows as module
from difflora.training.rows import LoraRows


def test_rows_of_a_split_in_order(town: Any) -> None:
    rows = LoraRows(town.corpus, "train")
    places = town.corpus.indices("train")
    assert rows.names == [town.corpus.entries[place].identity for place in places]
    assert torch.equal(torch.cat(list(rows)), town.corpus.rows(places))
    assert torch.equal(rows.take(torch.tensor([3, 0])), town.corpus.rows([places[3], places[0]]))


@pytest.mark.parametrize("canonical_form", [False, True])
def test_rows_that_do_not_fit_in_memory_are_read_as_they_are_asked_for(
    town: Any, monkeypatch: pytest.MonkeyPatch, canonical_form: bool
) -> None:
    kept = LoraRows(town.corpus, "train", canonical_form=canonical_form)
    monkeypatch.setattr(module, "_KEPT_BYTES", 0)
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    read = LoraRows(town.corpus, "train", canonical_form=canonical_form)
    torch.testing.assert_close(torch.cat(list(read)), torch.cat(list(kept)))
    assert read.digest == kept.digest
    raw = town.corpus.rows(town.corpus.indices("train")[:5])
    expected = canonical(raw, town.corpus.layout) if canonical_form else raw
    torch.testing.assert_close(read.take(range(5)), expected)


def test_digest_tells_rows_and_form_apart(town: Any, make_town: Callable[..., Any], tmp_path: Path) -> None:
    digests = {
        LoraRows(town.corpus, "train").digest,
        LoraRows(town.corpus, "validation").digest,
        LoraRows(town.corpus, "train", canonical_form=True).digest,
        LoraRows(make_town(tmp_path / "other", 29).corpus, "train").digest,
    }
    assert len(digests) == 4
    assert LoraRows(make_town(tmp_path / "same").corpus, "train").digest in digests


def test_faults(town: Any, make_town: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="nobody in the split validation"):
        LoraRows(make_town(tmp_path / "small", 1).corpus, "validation")
    other = make_town(tmp_path / "other")
    shard = next((other.corpus.folder / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    data[-other.corpus.layout.size * 4 * 40] ^= 1  # within the rows in use
    shard.write_bytes(data)
    with pytest.raises(BadFile, match="was changed"):
        LoraRows(other.corpus, "train")
