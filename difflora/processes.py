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


def make_accelerator(device: str | None = None) -> Accelerator:
    """On the machine's accelerator, or on the CPU; told so, since processes of a CPU else do not find each other.

    Args:
        device: what the models are on; ``cpu`` leaves an accelerator alone. None for whatever the machine has.
    """
    import torch
    from accelerate import Accelerator

    return Accelerator(cpu=device == "cpu" or not torch.accelerator.is_available())


def wait_for_all(device: str) -> None:
    """Returns once all of them are here, so that what the main one wrote can be read.

    Args:
        device: what the models are on, the same in each call.
    """
    if count() > 1:
        make_accelerator(device).wait_for_everyone()
