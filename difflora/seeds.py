"""Seeds that are a function of what they are for, so that nothing drawn depends on its company."""

from __future__ import annotations

import hashlib


def noise_seed(seed: int, *words: str) -> int:
    """The seed of a picture's noise: a function of the run's seed and of what the picture is for."""
    text = "\x1f".join([str(seed), *words])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
