"""Runs a command that ends when whoever started it does, also when that was killed.

    python -m flows.leash PID dvc repro -s lae

A stage that outlived its flow would hold DVC's lock and go on unseen. Here the command and all that it started are
killed as soon as process PID is gone; what a stage was doing goes on from its checkpoint in the next run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

_POLL = 0.2


def main(arguments: list[str]) -> int:
    """Runs ``arguments[1:]`` until it ends or process ``arguments[0]`` does; gives the exit status."""
    owner = int(arguments[0])
    if os.getpid() != os.getpgid(0):
        os.setpgid(0, 0)
    child = subprocess.Popen(arguments[1:])
    signal.signal(signal.SIGTERM, _stop)
    while True:
        try:
            return child.wait(_POLL)
        except subprocess.TimeoutExpired:
            if os.getppid() != owner:
                os.killpg(0, signal.SIGKILL)


def _stop(*_: object) -> None:
    """Hands a request to stop on to all that was started."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
