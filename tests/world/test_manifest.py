from __future__ import annotations

import json
from pathlib import Path

import pytest

from difflora.errors import BadFile
from difflora.files import sha256_file
from difflora.world.bars import Bar
from difflora.world.manifest import (
    Manifest,
    ModelRecord,
    check_manifest,
    describe_machine,
    list_files,
    now,
    read_manifest,
    record_bars,
    write_manifest,
)


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """Two files of two models and their manifest."""
    models = {}
    for name, path in (("vae", "base/vae/model.bin"), ("clip", "clip/model.bin")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(name.encode() * 100)
        models[name] = ModelRecord(
            command=f"difflora world train {name}",
            steps=10,
            seconds=1.5,
            settings={"lr": 0.1, "channels": [1, 2]},
            machine=describe_machine(),
            date=now(),
            files=list_files(tmp_path, name),
        )
    write_manifest(tmp_path, Manifest(models=models))
    return tmp_path


def test_it_says_what_each_file_is(assets: Path) -> None:
    manifest = check_manifest(assets)
    (file,) = manifest.models["vae"].files
    assert file.path == "base/vae/model.bin"
    assert file.bytes == 300
    assert file.sha256 == sha256_file(assets / file.path)
    assert manifest.bytes == 700
    assert manifest.megabytes == pytest.approx(0.0007)


def test_round_trip(assets: Path) -> None:
    manifest = read_manifest(assets)
    write_manifest(assets, manifest)
    assert read_manifest(assets) == manifest
    plain = json.loads((assets / "MANIFEST.json").read_text())
    assert set(plain["models"]["vae"]["machine"]) >= {"cpu", "cores", "torch"}


@pytest.mark.parametrize("damage", ["missing", "flipped", "truncated", "unlisted"])
def test_damage_is_named(assets: Path, damage: str) -> None:
    path = assets / "clip" / "model.bin"
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        data = bytearray(path.read_bytes())
        data[50] ^= 1
        path.write_bytes(bytes(data))
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path = assets / "clip" / "other.bin"
        path.write_bytes(b"?")
    said = {"missing": "missing", "unlisted": "not listed"}.get(damage, "changed")
    with pytest.raises(BadFile, match=f"{path}: {said}"):
        check_manifest(assets)


def test_card_and_manifest_need_no_listing(assets: Path) -> None:
    (assets / "README.md").write_text("a card")
    check_manifest(assets)


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "Invalid JSON"), ('{"models": {"vae": {"steps": 1}}}', r"models\.vae\."), ('{"surprise": 1}', "surprise")],
)
def test_unreadable_manifest_is_named(assets: Path, content: str, said: str) -> None:
    (assets / "MANIFEST.json").write_text(content)
    with pytest.raises(BadFile, match=rf"MANIFEST\.json: .*{said}"):
        read_manifest(assets)


def test_missing_manifest_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="difflora world train"):
        read_manifest(tmp_path)


def test_bars_keep_their_verdict_and_stay_valid_json() -> None:
    above, below, reported, broken = record_bars(
        [
            Bar("a", 0.9, 0.95),
            Bar("b", 0.2, 0.3, at_least=False),
            Bar("c", float("nan"), 3.0),
            Bar("d", 0.9, float("nan")),
        ]
    )
    assert (above.passed, below.passed, reported.passed, broken.passed) == (True, False, True, False)
    assert reported.goal is None
    assert broken.figure is None
