"""The plan's figures in a few lines: the head comment of a preset is made of them, and a test holds it to them."""

from __future__ import annotations

from difflora.plan.plan import Plan


def summary(plan: Plan) -> list[str]:
    """Time, memory and disk, each at two digits, as a preset's head comment gives them."""
    host = f", {_gib(plan.host_gib)} of main memory" if plan.host_gib >= 1 else ""
    return [
        f"Expected time: {_hours(plan.hours)} of one device ({plan.assumptions.machine}), most for {_largest(plan)}.",
        f"Device memory: {_gib(plan.memory_gib)}{host}. Disk: {_disk(plan.disk_gb)}, of it weights "
        f"{_disk(plan.weights_gb)}.",
    ]


def _largest(plan: Plan) -> str:
    stage = max(plan.stages, key=lambda each: each.hours)
    return f"{stage.name} ({100 * stage.hours / plan.hours:.0f}%)"


def _two(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.10g}"


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{_two(60 * hours)} minutes"
    return "1 hour" if _two(hours) == "1" else f"{_two(hours)} hours"


def _gib(size: float) -> str:
    return f"{_two(size)} GiB"


def _disk(size: float) -> str:
    return f"{_two(size / 1000)} TB" if size >= 1000 else f"{_two(size)} GB" if size >= 1 else f"{_two(size * 1000)} MB"
