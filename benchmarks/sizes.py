"""What a benchmark at full size measures and where: a preset's sizes, and the memory that the plan counts for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
import typer

from benchmarks.clock import Row, Took, free_gib, machine
from difflora.lora import LoraLayout
from difflora.plan.assumptions import Assumptions
from difflora.plan.bases import Base, read_base
from difflora.plan.counted import Counted, count_all
from difflora.plan.estimate import estimate
from difflora.plan.quantities import quantities
from difflora.stages.params import Params
from difflora.training import LoopSettings


@dataclass(frozen=True)
class Setup:
    """What is measured, and where.

    Attributes:
        params: sizes and settings; batches and precision are those that are measured.
        device: where.
        rounds: timed rounds of each.
        steps: DDIM steps of a personalisation.
        dreambooth_steps: steps of a round of DreamBooth.
        people: how many are trained at once, one case each.
        compile: whether sampling and DreamBooth are measured compiled as well.
        command: that says all this.
    """

    params: Params
    device: torch.device
    rounds: int
    steps: int
    dreambooth_steps: int
    people: tuple[int, ...]
    compile: bool
    command: str

    @cached_property
    def base(self) -> Base:
        """The base model on the meta device."""
        return read_base(self.params.models.base.folder, self.params.models.base.name)

    @cached_property
    def layout(self) -> LoraLayout:
        """Of its LoRAs."""
        chosen = self.params.corpus.dreambooth
        return LoraLayout.from_unet(self.base.unet, chosen.targets, chosen.rank)

    @cached_property
    def counted(self) -> Counted:
        """What the plan counts."""
        return count_all(self.params, Path())

    def expected_gib(self, stage: str, people_at_once: int = 1) -> float:
        """Memory of a stage by the plan."""
        corpus = self.params.corpus.model_copy(update={"people_at_once": people_at_once})
        params = self.params.model_copy(update={"corpus": corpus})
        assumed = Assumptions.of_device(str(self.device))
        stages = estimate(params, self.counted, quantities(params, people=16), assumed, 0.0)
        return next(each.memory_gib for each in stages if each.name == stage)

    def row(self, part: str, case: str, method: str, took: Took, expected: float, count: float = 1.0) -> Row:
        """A row; ``count`` things were done in a round."""
        seconds, fastest = took.median, min(took.seconds)
        where = machine(self.device)
        return Row(part, case, method, seconds, fastest, count / seconds, took.peak_gib, expected, where, self.command)

    def fits(self, what: str, expected: float) -> bool:
        """Whether there is memory for it; says so where there is not."""
        free = free_gib(self.device)
        if expected > free:
            typer.echo(f"{what}: passed over, it takes about {expected:.1f} GiB and {free:.1f} are free", err=True)
        return expected <= free


def with_sizes(params: Params, batch: int | None, precision: Literal["fp32", "bf16"]) -> Params:
    """A parameter file with the batch and precision that are measured, without training through the base."""
    effect = params.dit.effect.model_copy(update={"enabled": False})
    lae, dit = (_loop(section.loop, batch, precision) for section in (params.lae, params.dit))
    dreambooth = params.corpus.dreambooth.model_copy(update={"precision": precision})
    return params.model_copy(
        update={
            "lae": params.lae.model_copy(update={"loop": lae}),
            "dit": params.dit.model_copy(update={"loop": dit, "effect": effect}),
            "corpus": params.corpus.model_copy(update={"dreambooth": dreambooth}),
        }
    )


def _loop(loop: LoopSettings, batch: int | None, precision: Literal["fp32", "bf16"]) -> LoopSettings:
    return loop.model_copy(update={"batch_size": batch or loop.batch_size, "precision": precision})
