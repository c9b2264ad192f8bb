"""What the paper trains, at its full size, on the machine at hand: seconds and peak memory of one step of each.

Sizes are a preset's, the paper's unless told otherwise: LoRAs of SDXL at rank 4 are 5.8 million numbers each. LoRAs,
features and the base model's weights are random, so that nothing is fetched; times and memory do not depend on them.
Encoding the photograph is left out of a personalisation, since its models are the user's.

    python -m benchmarks.full_size                            # a step of each model and 100 DDIM steps; minutes
    python -m benchmarks.full_size lae --batch 1 --rounds 1
    python -m benchmarks.full_size dreambooth --people 1 --people 8

On a GPU the default is everything; on a CPU it is batch 1 without DreamBooth, whose UNet takes minutes a step there.
What does not fit the memory that is free, by the plan's count, is passed over. Writes a CSV named after the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.clock import Row, file_name, machine, write_csv
from benchmarks.dreambooth import dreambooth_rows
from benchmarks.hypernetwork import dit_rows, lae_rows, personalize_rows
from benchmarks.sizes import Setup, with_sizes
from difflora.corpus.base import DTYPES
from difflora.errors import BadParameter
from difflora.stages.params import load_params
from difflora.stages.presets import preset_path

PARTS = ("lae", "dit", "personalize", "dreambooth")

ROWS: dict[str, tuple[str | None, Callable[[Setup], Iterator[Row]]]] = {
    "lae": ("lae", lae_rows),
    "dit": ("dit", dit_rows),
    "personalize": (None, personalize_rows),
    "dreambooth": (None, dreambooth_rows),
}
"""Name of a part -> the plan's step whose memory it takes, and what measures it."""


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(PARTS)}.")] = None,
    preset: Annotated[str, typer.Option(help="Whose sizes.")] = "paper",
    params: Annotated[Path | None, typer.Option(metavar="FILE", help="Sizes of a parameter file instead.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU where there is one.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Of LAE and DiT; the preset's on a GPU, else 1.")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16; weights that are trained stay fp32.")] = "bf16",
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Timed rounds of each, after one that warms up; 3 on a GPU, else 1.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="DDIM steps of a personalisation.")] = 100,
    dreambooth_steps: Annotated[int, typer.Option(min=1, help="Steps of a round of DreamBooth.")] = 10,
    people: Annotated[list[int] | None, typer.Option(help="At once in DreamBooth; 1, 2, 4 and 8.")] = None,
    compile: Annotated[
        bool | None, typer.Option(help="Measure sampling and DreamBooth compiled too; on a GPU by default.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the CSV.")] = Path("benchmarks/results"),
) -> None:
    """Measures, prints and writes DIR/MACHINE.csv."""
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    gpu = where.type == "cuda"
    chosen = list(parts or (PARTS if gpu else PARTS[:3]))
    if unknown := [part for part in chosen if part not in PARTS]:
        raise BadParameter(f"no part is called {unknown[0]!r}: give some of {', '.join(PARTS)}")
    if precision not in DTYPES:
        raise BadParameter(f"precision is {precision!r}: give {' or '.join(DTYPES)}")
    counts = tuple(people or (1, 2, 4, 8))
    times = rounds or (3 if gpu else 1)
    compiled = gpu if compile is None else compile
    size = batch or (None if gpu else 1)
    words = [f"--params {params}" if params else f"--preset {preset}", f"--device {where}", f"--precision {precision}"]
    words += [f"--batch {size}"] if size else []
    words += [f"--rounds {times}", f"--steps {steps}", f"--dreambooth-steps {dreambooth_steps}"]
    words += [*(f"--people {count}" for count in counts), "--compile" if compiled else "--no-compile"]
    command = " ".join(["python -m benchmarks.full_size", *chosen, *words])
    sizes = with_sizes(load_params(params or preset_path(preset)), size, "bf16" if precision == "bf16" else "fp32")
    setup = Setup(sizes, where, times, steps, dreambooth_steps, counts, compiled, command)
    typer.echo(machine(where))
    found: list[Row] = []
    path = out / f"{file_name(where)}-{params.stem if params else preset}.csv"
    for part in chosen:
        stage, rows = ROWS[part]
        if stage is not None and not setup.fits(part, setup.expected_gib(stage)):
            continue
        for row in rows(setup):
            found.append(row)
            typer.echo(
                f"{row.part:11} {row.case:58} {row.method:14} {row.seconds:9.4f} s  {row.per_second:9.3f} a second  "
                f"{row.peak_gib:6.2f} GiB ({row.expected_gib:.2f} expected)"
            )
            write_csv(found, path)  # row by row: a kill loses the one that is being measured
    typer.echo(f"wrote {path}")


if __name__ == "__main__":
    typer.run(main)
