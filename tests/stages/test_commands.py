from __future__ import annotations

import pytest

from difflora.cli import main
from difflora.stages.doctor import Finding


def test_the_doctors_hints_keep_their_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hint = "extra ray: ray not installed; pip install 'difflora[ray]'"
    monkeypatch.setattr("difflora.stages.doctor.examine", lambda root: [Finding("versions", "note", hint)])
    with pytest.raises(SystemExit) as stopped:
        main(["doctor"])
    assert stopped.value.code == 0
    assert hint in capsys.readouterr().out
