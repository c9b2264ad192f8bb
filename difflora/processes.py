"""Processes that one launcher (`accelerate launch`, `torchrun`) started together: who writes, and who waits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def count() -> int:
    """How many there are; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the one that writes, logs and tracks; true without a launcher."""
    return int(os.environ.get("RANK", "0")) == 0


def make_accelerator() -> Accelerator:
    """On the machine's accelerator, or on the CPU; told so, since processes of a CPU else do not find each other."""
    import torch
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.accelerator.is_available())


def wait_for_all() -> None:
    """Returns once all of them are here, so that what the main one wrote can be read."""
    if count() > 1:
        make_accelerator().wait_for_everyone()
