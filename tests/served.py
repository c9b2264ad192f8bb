"""Servers that tests start as users do: a process of its own, on a port of its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_study(study: Path) -> tuple[subprocess.Popen[str], str]:
    """``difflora study serve``; its process and its address."""
    command = [sys.executable, "-m", "difflora.cli", "study", "serve", str(study), "--port", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    line = server.stdout.readline()
    found = re.match(r"http://127\.0\.0\.1:\d+", line)
    assert found, line
    return server, found[0]
