"""Time, peak memory and the machine's name, the same way for every part of a benchmark."""

from __future__ import annotations

import csv
import ctypes
import gc
import io
import os
import re
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from difflora.files import write_atomic
from difflora.machine import processor

_GIB = 2**30


@dataclass(frozen=True)
class Row:
    """One method on one case.

    Attributes:
        part: what is done.
        case: sizes and types.
        method: by what.
        seconds: median of the rounds, after one that warms up.
        fastest: of the rounds.
        per_second: what the case counts, a second: steps, LoRAs' steps, personalisations.
        peak_gib: the most memory: of the device, or of the process on a CPU.
        expected_gib: what ``difflora plan`` counts for it, or the weights alone.
        machine: device, threads and versions.
        command: that measures it again.
    """

    part: str
    case: str
    method: str
    seconds: float
    fastest: float
    per_second: float
    peak_gib: float
    expected_gib: float
    machine: str
    command: str


@dataclass(frozen=True)
class Took:
    """What some rounds of one thing took.

    Attributes:
        seconds: of each round.
        peak_gib: over all of them, warming up included.
    """

    seconds: list[float]
    peak_gib: float

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.seconds)


def measure(call: Callable[[], object], device: torch.device, rounds: int) -> Took:
    """Times a call, which runs once more before to warm up.

    Args:
        call: what is timed.
        device: where it computes; it is waited for.
        rounds: how often.
    """
    reset_peak(device)
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return Took(seconds[1:], peak_gib(device))


def reset_peak(device: torch.device) -> None:
    """Forgets the most memory so far, after giving back what is free."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's word for: the peak is what there is now
    except (AttributeError, OSError):
        pass


def peak_gib(device: torch.device) -> float:
    """The most memory since ``reset_peak``; since the process began where the system does not forget."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024 / _GIB


def free_gib(device: torch.device) -> float:
    """Memory that is free now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / _GIB
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (int(found[1]) * 1024 if found else whole) / _GIB


def machine(device: torch.device) -> str:
    """Device, threads where it is a CPU, and torch's version."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; torch {torch.__version__}"
    return f"{processor()}, {torch.get_num_threads()} threads; torch {torch.__version__}"


def file_name(device: torch.device) -> str:
    """The machine's name as that of a file."""
    return re.sub(r"[^a-z0-9]+", "-", machine(device).split(";")[0].lower()).strip("-")


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Writes rows with a header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=[field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{each:.4g}" if isinstance(each, float) else each for key, each in asdict(row).items()})
    write_atomic(path, text.getvalue().encode())
