"""One at a time: a lock that goes when its process does."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from difflora.errors import Busy


@contextmanager
def alone(path: Path, what: str, seconds: float = 60.0) -> Iterator[None]:
    """Holds a lock file, after waiting for whoever holds it.

    Args:
        path: the file; made if missing, and left behind.
        what: it is for, in the error.
        seconds: to wait at most.

    Raises:
        Busy: if another process holds it for longer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + seconds
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() >= until:
                    file.seek(0)
                    holder = file.read().strip() or "another process"
                    raise Busy(
                        f"{path}: {what} is held by {holder} for over {seconds:g} s; wait for it, then run again"
                    ) from error
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
