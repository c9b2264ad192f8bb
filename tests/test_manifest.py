from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from difflora.errors import BadFile
from difflora.manifest import check_manifest, write_manifest


def _folder(tmp_path: Path) -> Path:
    (tmp_path / "lae").mkdir()
    (tmp_path / "lae" / "weights.bin").write_bytes(b"12345")
    (tmp_path / "index.json").write_text("{}")
    assert list(write_manifest(tmp_path)) == ["index.json", "lae/weights.bin"]
    return tmp_path


def test_an_untouched_folder_passes(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    check_manifest(folder)
    stored = (folder / "MANIFEST.json").read_bytes()
    write_manifest(folder)
    assert (folder / "MANIFEST.json").read_bytes() == stored


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "lae" / "weights.bin").write_bytes(b"12344"), r"lae/weights\.bin: was changed"),
        (lambda folder: (folder / "index.json").unlink(), r"index\.json: is in the manifest but not there"),
        (lambda folder: (folder / "more.txt").write_text("x"), r"more\.txt: is not in the manifest"),
        (lambda folder: (folder / "MANIFEST.json").unlink(), r"MANIFEST\.json: no such file"),
        (lambda folder: (folder / "MANIFEST.json").write_text("{"), r"MANIFEST\.json: not readable"),
    ],
)
def test_every_change_is_named(tmp_path: Path, change: Callable[[Path], object], said: str) -> None:
    folder = _folder(tmp_path)
    change(folder)
    with pytest.raises(BadFile, match=said):
        check_manifest(folder)
