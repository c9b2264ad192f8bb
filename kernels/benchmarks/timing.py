"""Time, bandwidth and the machine's name, the same way for every benchmark."""

from __future__ import annotations

import csv
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """One method on one case.

    Attributes:
        benchmark: what is done.
        case: sizes and dtype.
        method: by what.
        milliseconds: median of the rounds.
        fastest: of the rounds.
        gigabytes_per_second: of the bytes that the work cannot do without.
        of_copy: that rate over the rate of a copy of as many bytes in the same run.
        machine: device, threads and versions.
    """

    benchmark: str
    case: str
    method: str
    milliseconds: float
    fastest: float
    gigabytes_per_second: float
    of_copy: float
    machine: str


def measure(
    calls: Sequence[Call], device: torch.device, seconds: float = 1.0, before: Call | None = None
) -> list[float]:
    """Milliseconds of a call, one number a round.

    Args:
        calls: the same work on tensors of their own: taken in turn, so that no cache holds the next one's.
        device: where it runs. A GPU is given a whole round at once and is not waited for inside it.
        seconds: how long to measure, after a round that warms up; three rounds at least.
        before: not timed, before each call; a round is then one call.
    """
    rounds = [calls] if before is None else [[call] for call in calls]
    for call in calls:
        if before is not None:
            before()
        call()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 3:
        for some in rounds:
            if before is not None:
                before()
            found.append(_one_round(some, device) / len(some))
    return found


def _one_round(calls: Sequence[Call], device: torch.device) -> float:
    if device.type == "cuda":
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        for call in calls:
            call()
        stop.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(stop))
    begun = time.perf_counter()
    for call in calls:
        call()
    return (time.perf_counter() - begun) * 1e3


def copy_rate(size: int, device: torch.device, seconds: float = 1.0) -> float:
    """Bytes a second, read and written, of copies that move ``size`` bytes in all, between tensors taken in turn."""
    pairs = [
        [torch.ones(max(1, size // 2), dtype=torch.uint8, device=device) for _ in range(2)]
        for _ in range(rotations(size, device))
    ]
    calls: list[Call] = [lambda to=to, of=of: to.copy_(of) for to, of in pairs]
    return size / (statistics.median(measure(calls, device, seconds)) * 1e-3)


def rotations(size: int, device: torch.device) -> int:
    """How many sets of tensors of ``size`` bytes exceed three times any cache; they are then taken in turn."""
    cache = torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 64 * 2**20
    return max(2, -(-3 * cache // max(size, 1)))


def result(
    benchmark: str, case: str, method: str, milliseconds: Sequence[float], size: int, copy: float, device: torch.device
) -> Result:
    """Puts a measurement into a row."""
    median = statistics.median(milliseconds)
    rate = size / (median * 1e-3)
    return Result(benchmark, case, method, median, min(milliseconds), rate / 1e9, rate / copy, machine(device))


def machine(device: torch.device) -> str:
    """Device, threads where it is a CPU, and the versions that matter."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_processor()}, {torch.get_num_threads()} threads"
    return f"{name}; torch {torch.__version__}; triton {_version('triton')}"


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Writes rows with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(Result.__dataclass_fields__))
        writer.writeheader()
        for row in results:
            writer.writerow(
                {key: f"{each:.4g}" if isinstance(each, float) else each for key, each in asdict(row).items()}
            )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
