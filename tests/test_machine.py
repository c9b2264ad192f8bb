from __future__ import annotations

import platform
from pathlib import Path

import pytest

from difflora.machine import processor


def test_the_processor_is_named_as_the_system_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    info = "processor\t: 0\nmodel name\t: Some Chip 9: fast\nprocessor\t: 1\nmodel name\t: Another\n"
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    monkeypatch.setattr(Path, "read_text", lambda self: info)
    assert processor() == "Some Chip 9: fast"
    monkeypatch.setattr(Path, "read_text", lambda self: "nothing of it")
    assert processor() == (platform.processor() or platform.machine())
