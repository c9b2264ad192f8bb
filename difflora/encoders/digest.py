"""What tells one encoder's weights from another's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from difflora.files import sha256_file


def sha256_files(paths: Iterable[Path]) -> str:
    """The sha256, in hexadecimal, over names and contents of files, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {sha256_file(path)}\n".encode())
    return digest.hexdigest()
