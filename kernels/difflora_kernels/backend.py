"""Which path a call takes: Triton where the tensors lie on a GPU, torch elsewhere, or one of them by order.

``DIFFLORA_KERNELS`` (``auto``, ``triton`` or ``torch``) orders for the whole process, ``use_backend`` for a block.
``torch`` is the reference, which nothing compiles. On a CPU Triton runs only by order and only through its interpreter,
which is slow and meant for tests: ``TRITON_INTERPRET=1`` has to be set before triton is imported.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

BACKENDS = ("auto", "triton", "torch")
VARIABLE = "DIFFLORA_KERNELS"

_ordered: str | None = None


@cache
def has_triton() -> bool:
    """Whether the triton package is installed; nothing is imported."""
    return importlib.util.find_spec("triton") is not None


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Orders a backend for all threads until the block ends: backward passes run in threads of their own.

    Args:
        name: ``auto``, ``triton`` or ``torch``.

    Raises:
        ValueError: if the name is another.
    """
    global _ordered
    before, _ordered = _ordered, _known(name, "backend")
    try:
        yield
    finally:
        _ordered = before


def backend() -> str:
    """What is ordered now: ``auto``, ``triton`` or ``torch``.

    Raises:
        ValueError: if the environment orders an unknown backend.
    """
    return _ordered or _known(os.environ.get(VARIABLE) or "auto", VARIABLE)


def takes_triton(device: torch.device) -> bool:
    """Whether work on tensors of this device is Triton's.

    Raises:
        RuntimeError: if Triton was ordered and cannot run there.
        ValueError: as ``backend``.
    """
    name = backend()
    if name != "triton":
        return name == "auto" and device.type == "cuda" and has_triton()
    if not has_triton():
        raise RuntimeError("the triton backend was ordered, but triton is not installed: pip install triton")
    if device.type != "cuda" and not (device.type == "cpu" and _interprets()):
        raise RuntimeError(
            f"the triton backend was ordered for tensors on {device}; move them to a GPU, or set TRITON_INTERPRET=1 "
            "before triton is imported to run its interpreter on CPU"
        )
    return True


def _interprets() -> bool:
    from triton import knobs

    return bool(knobs.runtime.interpret)


def _known(name: str, where: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{where} is {name!r}; it must be one of {', '.join(BACKENDS)}")
    return name


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current GPU, which need not be the one that holds the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def processors(device: torch.device) -> int:
    """How many multiprocessors the device has; 1 where it is no GPU."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
