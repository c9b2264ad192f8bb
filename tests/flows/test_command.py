"""Commands on a leash: progress, faults, and an end with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from difflora.errors import Busy
from flows.command import CommandFailed, run

ROOT = Path(__file__).parents[2]


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_bars_are_progress_and_the_rest_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    told: list[tuple[float, str]] = []
    code = (
        "import sys; sys.stderr.write('lae:   0%|          | 0/4 [00:00<?, ?step/s]\\r"
        "lae:  50%|#####     | 2/4 [00:01<00:01, 1.9step/s, loss=0.5]\\n'); print('done')"
    )
    done = run(_python(code), tmp_path, on_line=said.append, on_progress=lambda p, words: told.append((p, words)))
    assert said == ["done"]
    assert done.text == "done"
    assert told == [
        (0.0, "lae: 0/4 [00:00<?, ?step/s]"),
        (50.0, "lae: 2/4 [00:01<00:01, 1.9step/s, loss=0.5]"),
    ]


@pytest.mark.parametrize(
    ("said", "status", "kind", "words"),
    [
        ("ERROR: Unable to acquire lock. Most likely another DVC process is running", 255, Busy, "lock is held"),
        ("ERROR: 'data/corpus' is busy, it is being blocked by:", 255, Busy, "lock is held"),
        (
            "difflora: the tracking server is away\\nERROR: failed to run: difflora stage dit, exited with 75",
            255,
            Busy,
            "the tracking server is away",
        ),
        (
            "difflora: data/corpus/shards/0: row 3 was changed\\nERROR: failed to reproduce 'lae'",
            255,
            CommandFailed,
            "row 3 was changed",
        ),
        ("ERROR: no stage", 1, CommandFailed, "ERROR: no stage"),
        ("", 3, CommandFailed, "it said nothing"),
    ],
)
def test_faults_that_pass_are_told_from_those_that_stay(
    tmp_path: Path, said: str, status: int, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as raised:
        run(_python(f"print('{said}'); raise SystemExit({status})"), tmp_path)
    assert type(raised.value) is kind


STARTER = """
import sys
from pathlib import Path
from flows.command import run
run([sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])", sys.argv[1]],
    Path(sys.argv[2]))
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_started_ends_with_a_killed_flow(tmp_path: Path, sign: signal.Signals) -> None:
    deep = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    starter = subprocess.Popen([sys.executable, "-c", STARTER, deep, str(tmp_path)], env=environment)
    pid = int(_until(lambda: (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""))
    starter.send_signal(sign)
    starter.wait()
    assert _until(lambda: "gone" if not Path(f"/proc/{pid}").exists() or _dead(pid) else "") == "gone"


def _dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _until(found: object, seconds: float = 30) -> str:
    assert callable(found)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := str(found()):
            return value
        time.sleep(0.1)
    raise AssertionError("it did not come to pass")
