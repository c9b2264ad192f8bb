"""Measures the kernels against what people use today, on a GPU or a CPU, and writes a CSV and a plot.

    python kernels/benchmarks/run.py                    # all that is worth measuring on this machine, minutes
    python kernels/benchmarks/run.py wp_loss --quick    # one, on its smallest case

On a CPU the WP loss is measured at batch 1, the merge at rank 4 and the linear layer with 2 people unless told
otherwise; the merge takes 12 GB of memory there. Numbers of a busy machine are those of a busy machine.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from plot import plot
from timing import Result, machine, write_csv

BENCHMARKS = ("wp_loss", "merge", "lora_linear")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def results(options: argparse.Namespace) -> Iterator[Result]:
    """Runs what is asked for."""
    device = torch.device(options.device)
    gpu = device.type == "cuda"
    whole = gpu and not options.quick
    if "wp_loss" in options.benchmarks:
        import wp_loss

        batches = options.batch or ([1, 4, 16] if whole else [1])
        dtypes = [DTYPES[name] for name in options.dtype or (["float32", "bfloat16"] if whole else ["float32"])]
        yield from wp_loss.run(device, batches, options.rank or ([4, 8] if whole else [4]), dtypes, options.seconds)
    if "merge" in options.benchmarks:
        import merge

        dtypes = [DTYPES[name] for name in options.dtype or (["float16", "bfloat16"] if whole else ["float16"])]
        yield from merge.run(device, options.rank or ([4, 16] if whole else [4]), dtypes, options.seconds)
    if "lora_linear" in options.benchmarks:
        import lora_linear

        people = options.people or ([4, 16] if whole else [2])
        dtypes = [DTYPES[name] for name in options.dtype or (["float32", "bfloat16"] if whole else ["float32"])]
        ranks = options.rank or ([4, 16] if whole else [4])
        yield from lora_linear.run(device, people, ranks, dtypes, options.seconds)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmarks", nargs="*", default=list(BENCHMARKS), help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, nargs="+", help="batches of the WP loss")
    parser.add_argument("--people", type=int, nargs="+", help="LoRAs of a batch of the linear layer")
    parser.add_argument("--rank", type=int, nargs="+", help="ranks of the LoRAs")
    parser.add_argument("--dtype", nargs="+", choices=list(DTYPES))
    parser.add_argument("--seconds", type=float, default=1.0, help="for each method and case")
    parser.add_argument("--quick", action="store_true", help="the smallest case alone")
    parser.add_argument("--out", type=Path, default=Path("kernels/benchmarks/results"), help="folder")
    options = parser.parse_args()
    if unknown := set(options.benchmarks) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    print(machine(torch.device(options.device)))
    found = []
    for row in results(options):
        found.append(row)
        print(
            f"{row.benchmark:11} {row.case:42} {row.method:24} {row.milliseconds:9.3f} ms "
            f"{row.gigabytes_per_second:8.1f} GB/s {row.of_copy:5.0%} of a copy",
            flush=True,
        )
    name = re.sub(r"[^a-z0-9]+", "-", machine(torch.device(options.device)).split(";")[0].lower()).strip("-")
    write_csv(found, options.out / f"{name}.csv")
    plot(found, options.out / f"{name}.png")
    print(f"wrote {options.out / name}.csv and .png")


if __name__ == "__main__":
    main()
