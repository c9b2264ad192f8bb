"""Commands as tasks run them: on a leash, with their progress told, and their faults sorted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from difflora.errors import Busy

OnProgress = Callable[[float, str], None]
"""Told percent done and the bar's own words."""

_BAR = re.compile(r"(?P<name>[\w .-]+): +(?P<percent>\d+)%\|.*\|(?P<rest>.*)$")
_BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")
_AWAY = re.compile(r"exited with 75\b")
_KEPT = 40


class CommandFailed(RuntimeError):
    """A command ended with a fault that does not pass by itself; the message holds its last words."""


@dataclass(frozen=True)
class Done:
    """What a command that went well said.

    Attributes:
        text: its last lines.
    """

    text: str


def run(
    arguments: Sequence[str],
    root: Path,
    *,
    environment: dict[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    on_progress: OnProgress | None = None,
) -> Done:
    """Runs a command in a workspace; it never outlives this process.

    Args:
        arguments: the command's words; ``dvc`` and ``difflora`` are those of this Python.
        root: of the workspace.
        environment: variables beside those of this process.
        on_line: told each line of output that is no progress bar.
        on_progress: told what progress bars say.

    Raises:
        Busy: for a held lock or a tracking server that is away.
        CommandFailed: for all else.
    """
    here = Path(sys.executable).parent
    values = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
    values["PATH"] = os.pathsep.join([str(here), values.get("PATH", "")])
    code = Path(__file__).parents[1]
    values["PYTHONPATH"] = os.pathsep.join(filter(None, [str(code), str(code / "kernels"), values.get("PYTHONPATH")]))
    leash = [sys.executable, "-m", "flows.leash", str(os.getpid()), *arguments]
    process = subprocess.Popen(
        leash, cwd=root, env=values, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    said: deque[str] = deque(maxlen=_KEPT)
    try:
        assert process.stdout is not None
        for line in _lines(process.stdout):
            bar = _BAR.search(line)
            if bar is None:
                said.append(line)
                if on_line:
                    on_line(line)
            elif on_progress:
                on_progress(float(bar["percent"]), f"{bar['name'].strip()}: {bar['rest'].strip()}")
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    text = "\n".join(said)
    if status == 0:
        return Done(text)
    words = " ".join(arguments)
    if any(sign in text for sign in _BUSY):
        raise Busy(f"`{words}`: DVC's lock is held by another process; wait for it, or stop it")
    if status == Busy.exit_code or _AWAY.search(text):
        raise Busy(f"`{words}`: {_reason(text)}")
    raise CommandFailed(f"`{words}` ended with {status}: {_reason(text)}")


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Lines as they come; a bar ends its with a carriage return."""
    kept = b""
    while chunk := os.read(stream.fileno(), 65536):
        *whole, kept = re.split(rb"[\r\n]+", kept + chunk)
        yield from (line.decode(errors="replace") for line in whole if line.strip())
    if kept.strip():
        yield kept.decode(errors="replace")


def _reason(text: str) -> str:
    """The line that says what was wrong: the stage's own, else DVC's, else the last."""
    lines = [line for line in text.splitlines() if line.strip()]
    for sign in ("difflora: ", "ERROR: "):
        for line in reversed(lines):
            if line.startswith(sign):
                return line
    return lines[-1] if lines else "it said nothing"
