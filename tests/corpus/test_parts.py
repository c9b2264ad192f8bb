from __future__ import annotations

from pathlib import Path

from difflora.corpus.base import FrozenBase
from difflora.corpus.build import batches_of, build_corpus, corpus_settings, train_batches
from difflora.corpus.parts import Parts
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings
from difflora.lora import LoraLayout

SETTINGS = DreamBoothSettings(rank=1, steps=2, batch_size=2, lr=1e-2, seed=4)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_batches_trained_elsewhere_give_the_same_bytes(base: FrozenBase, people: PeopleFolder, tmp_path: Path) -> None:
    build_corpus(tmp_path / "whole", people, base, SETTINGS, people_at_once=2, progress=False)
    batches, parts = batches_of(people, 2), tmp_path / "parts"
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert train_batches(parts, [batches[2], batches[0]], people, base, SETTINGS, progress=False) == 2
    assert train_batches(parts, batches[:1], people, base, SETTINGS, progress=False) == 0
    damaged = sorted(parts.iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"\x01\x02\x03\x04")
    report = build_corpus(tmp_path / "joined", people, base, SETTINGS, people_at_once=2, parts=parts, progress=False)
    assert report.trained == 5
    assert report.train_seconds > 0, "those of elsewhere too"
    assert _bytes(tmp_path / "joined") == _bytes(tmp_path / "whole")


def test_a_batch_says_how_long_it_took(base: FrozenBase, people: PeopleFolder, tmp_path: Path) -> None:
    batch = batches_of(people, 5)[0]
    train_batches(tmp_path, [batch], people, base, SETTINGS, progress=False)
    layout = LoraLayout.from_unet(base.unet, SETTINGS.targets, SETTINGS.rank)
    made = Parts(tmp_path, {**corpus_settings(base, people, SETTINGS), "layout": layout.to_json()}).load(batch)
    assert made is not None
    assert made.seconds > 0
    assert made.seconds_each == made.seconds / 5


def test_parts_of_other_settings_are_not_taken(base: FrozenBase, people: PeopleFolder, tmp_path: Path) -> None:
    other = SETTINGS.model_copy(update={"seed": 5})
    train_batches(tmp_path / "parts", batches_of(people, 5), people, base, other, progress=False)
    for name, parts in (("alone", None), ("beside", tmp_path / "parts")):
        build_corpus(tmp_path / name, people, base, SETTINGS, people_at_once=5, parts=parts, progress=False)
    assert _bytes(tmp_path / "beside") == _bytes(tmp_path / "alone")
