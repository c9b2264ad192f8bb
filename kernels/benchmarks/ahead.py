"""Compiles every kernel for a GPU that need not be there, and says what the machine code is like.

    python kernels/benchmarks/ahead.py --arch 80 90 100

The launches are the real ones at SDXL's sizes, on memory that is never touched, and stop before anything runs.
Registers, spills and the width of memory accesses tell whether a kernel can be fast; only a GPU tells whether it is.
Takes seconds for each architecture. ``TRITON_INTERPRET`` must not be set.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from difflora_kernels.lora_linear import launch as lora_linear
from difflora_kernels.lora_merge.launch import KernelMerge
from difflora_kernels.lora_merge.layout import FlatLayout, Statistics
from difflora_kernels.wp_loss import launch as wp_loss
from difflora_kernels.wp_loss.problem import Problem

SHAPES = ((640, 640), (640, 2048), (1280, 1280), (1280, 2048))
"""(out, in) of SDXL's attention."""


@dataclass(frozen=True)
class Compiled:
    """One kernel as a launch needs it.

    Attributes:
        work: what was launched.
        kernel: its name.
        arch: compute capability times 10.
        registers: of a thread.
        spilled: bytes a thread keeps in memory for want of registers.
        shared: bytes of shared memory a program takes.
        warps: of a program.
        widest_load: bytes of the widest read of global memory by one thread.
        widest_copy: the same of asynchronous copies to shared memory.
        widest_store: the same of writes.
    """

    work: str
    kernel: str
    arch: int
    registers: int
    spilled: int
    shared: int
    warps: int
    widest_load: int
    widest_copy: int
    widest_store: int


class _Driver:
    """Stands for the driver of a GPU that is not there."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch  # Triton keeps what it compiled by device

    def get_current_stream(self, device: int) -> int:
        return 0


def works() -> Iterator[tuple[str, Callable[[], object]]]:
    """Name and launch of each kind of work."""
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.empty(4, FlatLayout(SHAPES, 4).size, dtype=dtype)
        name = str(dtype).removeprefix("torch.")
        plain = Problem.of(x.shape, None, 1.0, "mse", "mean")
        summed = Problem.of(x.shape, None, 1.0, "l1", "sum")
        weights, one, four = torch.empty(x.shape[1]), torch.empty(1), torch.empty(4)
        weighted = Problem.of(x.shape, weights.shape, 1.0, "l1", "sample")
        yield f"loss and gradient, {name}", lambda x=x, p=plain: wp_loss.forward(x, x, None, None, True, p)
        yield f"sum without gradient, {name}", lambda x=x, p=summed: wp_loss.forward(x, x, None, None, False, p)
        yield (
            f"weighted loss and gradient, {name}",
            lambda x=x, p=weighted, w=weights, t=four: wp_loss.forward(x, x, w, t, True, p),
        )
        yield f"gradient alone, {name}", lambda x=x, p=plain, u=one: wp_loss.backward(x, x, None, None, u, p)
        yield f"factor of a gradient, {name}", lambda x=x, u=one: wp_loss.scale_(x, u)
    for dtype, flat_dtype, rank, loras, statistics in (
        (torch.float16, torch.float32, 4, 1, False),
        (torch.bfloat16, torch.float32, 4, 1, False),
        (torch.float32, torch.float32, 4, 1, False),
        (torch.float16, torch.float16, 4, 1, True),
        (torch.float16, torch.float32, 16, 1, False),
        (torch.bfloat16, torch.float32, 16, 1, False),
        (torch.float16, torch.float32, 128, 2, True),
    ):
        layout = FlatLayout(SHAPES, rank)
        weights = [torch.empty(shape, dtype=dtype) for shape in SHAPES]
        merge = KernelMerge(weights, weights, layout, range(len(SHAPES)))
        flat = torch.empty(loras, layout.size, dtype=flat_dtype)
        given = Statistics(torch.empty(layout.size), torch.empty(2 * len(SHAPES))) if statistics else Statistics()
        arguments = flat, torch.empty(loras), given, torch.empty(len(SHAPES), dtype=torch.int32)
        name = f"merge of {loras}, rank {rank}, {flat_dtype} into {dtype}".replace("torch.", "")
        yield name + (", normalised" if statistics else ""), lambda m=merge, a=arguments: m(*a)
    for dtype, rank in ((torch.float32, 4), (torch.bfloat16, 4), (torch.bfloat16, 16), (torch.float16, 128)):
        m, n = SHAPES[1]
        x, y = torch.empty(8, 77, n, dtype=dtype), torch.empty(8, 77, m, dtype=dtype)
        lora_a = torch.empty(4, n, rank, dtype=dtype).transpose(1, 2)  # as a flat vector holds it
        loras = lora_a, torch.empty(4, m, rank, dtype=dtype), torch.arange(8) // 2, torch.empty(4)
        low = torch.empty(8, 77, rank)
        name = f"rank {rank}, {str(dtype).removeprefix('torch.')}"
        yield f"linear, {name}", lambda x=x, y=y, loras=loras: lora_linear.forward(y, x, *loras)
        yield (
            f"linear's gradients, {name}",
            lambda x=x, y=y, low=low, loras=loras: lora_linear.backward(y, x, low, *loras, True),
        )


@contextmanager
def compiling(arch: int, found: list[Any]) -> Iterator[None]:
    """Launches inside compile for an architecture, give the result to ``found`` and run nothing."""
    run, before = JITFunction.run, driver._active

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        found.append(run(self, *arguments, grid=grid, warmup=True, **options))
        return found[-1]

    JITFunction.run = compile_only
    driver.set_active(_Driver(arch))
    try:
        yield
    finally:
        JITFunction.run, driver._active = run, before


def describe(work: str, arch: int, compiled: Any) -> Compiled:
    """Reads what a compiled kernel is like."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    usage = re.search(r"REG:(\d+) STACK:(\d+)", text)
    if usage is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {text}")
    ptx = compiled.asm["ptx"]
    return Compiled(
        work,
        compiled.metadata.name,
        arch,
        int(usage[1]),
        int(usage[2]),
        compiled.metadata.shared,
        compiled.metadata.num_warps,
        _widest(r"ld\.global\S*", ptx),
        max((int(size, 0) for size in re.findall(_COPY, ptx)), default=0),
        _widest(r"st\.global\S*", ptx),
    )


_COPY = r"cp\.async\.\S+ \[[^\]]+\], \[[^\]]+\], (0x\w+|\d+)"


def _widest(pattern: str, ptx: str) -> int:
    """Bytes of the widest access."""
    widest = 0
    for access in re.findall(pattern, ptx):
        count, bits = re.search(r"\.v(\d)", access), re.search(r"\.b(\d+)", access)
        if bits:
            widest = max(widest, (int(count[1]) if count else 1) * int(bits[1]) // 8)
    return widest


def main() -> None:
    """Compiles and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, nargs="+", default=[90], help="compute capabilities times 10")
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each kernel")
    options = parser.parse_args()
    for arch in options.arch:
        for work, launch in works():
            found: list[Any] = []
            with compiling(arch, found):
                launch()
            for compiled in found:
                row = describe(work, arch, compiled)
                if options.json:
                    print(json.dumps(asdict(row)), flush=True)
                else:
                    print(
                        f"sm_{arch}  {row.kernel:18} {row.registers:3} registers {row.spilled:4} B spilled "
                        f"{row.shared:6} B shared  loads {row.widest_load:2} B  copies {row.widest_copy:2} B  "
                        f"stores {row.widest_store:2} B  {work}"
                    )


if __name__ == "__main__":
    main()
