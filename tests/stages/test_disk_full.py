"""A disk that is full in the middle of a step, on a small file system of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from difflora.cli import main
from difflora.corpus.people import PeopleFolder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_it_says_what_to_do_and_goes_on_where_it_was(
    small_disk: Path, chain_params: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for root in (small_disk, tmp_path):
        (root / "params.yaml").write_text(yaml.safe_dump(chain_params))
    arguments = ["stage", "identities", "--params", str(small_disk / "params.yaml")]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "no space is left on the device" in capsys.readouterr().err
    assert not list((small_disk / "data" / "people" / "people").glob(".*")), "nothing half-written is left"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    with pytest.raises(SystemExit):
        main(["stage", "identities", "--params", str(tmp_path / "params.yaml")])
    grown, whole = (PeopleFolder(root / "data" / "people") for root in (small_disk, tmp_path))
    assert [grown.line(name) for name in grown.ids] == [whole.line(name) for name in whole.ids]
