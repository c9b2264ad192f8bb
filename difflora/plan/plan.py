"""A whole plan: what the models are, what every step takes, and what the figures hang on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from difflora.errors import BadParameter
from difflora.lora.architecture import SDXL
from difflora.plan.assumptions import Assumptions
from difflora.plan.bases import parameters
from difflora.plan.counted import Counted, count_all
from difflora.plan.estimate import StageCost, estimate
from difflora.plan.quantities import Quantities, quantities
from difflora.stages.needs import weights_bytes
from difflora.stages.params import Params

PAPER_HOURS = {"lae": 600.0, "dit": 300.0}
"""GPU hours that the paper reports (4.1)."""
PAPER_EPOCHS, PAPER_LORAS = 1400, 100_000
"""Of the DiT, at batch 32 (the autoencoder's batch is 4)."""
PAPER_LORA_SECONDS = 1052.0
"""A LoRA-DreamBooth of one person, by the paper's table 1."""
_STEP = 1.1
_LARGE_HOST_GIB = 100


class Shape(BaseModel):
    """Modules of one shape: m x n."""

    model_config = ConfigDict(frozen=True)

    out_features: int
    in_features: int
    modules: int


class LoraFacts(BaseModel):
    """What a LoRA is."""

    model_config = ConfigDict(frozen=True)

    rank: int
    modules: int
    parameters: int
    megabytes_fp16: float
    shapes: list[Shape]


class ModelFacts(BaseModel):
    """How large the hypernetwork is."""

    model_config = ConfigDict(frozen=True)

    lae_parameters: int
    latent_size: int
    compression_ratio: float
    dit_parameters: int
    dit_block_parameters: int


class Driver(BaseModel):
    """How the hours follow a quantity.

    Attributes:
        name: an assumption's, or a quantity's.
        value: as it stands.
        elasticity: percent that the hours change by a percent of it; -1 where twice as much takes half as long.
        assumed: whether it is assumed and not of the parameter file.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    elasticity: float
    assumed: bool


class Plan(BaseModel):
    """All of it; hours are of one device, and shared out evenly among ``gpus``."""

    model_config = ConfigDict(frozen=True)

    preset: str
    base: str
    base_from: str
    base_parameters: int
    people: int
    loras: float
    gpus: int
    lora: LoraFacts
    models: ModelFacts
    stages: list[StageCost]
    hours: float
    days: float
    memory_gib: float
    host_gib: float
    disk_gb: float
    weights_gb: float
    assumptions: Assumptions
    drivers: list[Driver]
    remarks: list[str]


def make_plan(
    params: Params,
    *,
    preset: str = "",
    root: Path = Path(),
    people: int | None = None,
    gpus: int = 1,
    assume: list[str] | None = None,
) -> Plan:
    """Plans a parameter file; no weight is loaded and nothing is written.

    Args:
        params: all parameters.
        preset: what to call them.
        root: where relative folders begin; the base's configuration is read there, where it lies.
        people: in the place of ``identities.count``.
        gpus: devices that share the work.
        assume: ``NAME=VALUE`` in the place of assumptions.

    Raises:
        BadParameter: if a number is below 1 or an assumption is unknown.
        BadFile: if the base model's configuration is unknown.
    """
    for name, number in (("people", people), ("gpus", gpus)):
        if number is not None and number < 1:
            raise BadParameter(f"{name} is {number}: give at least 1")
    assumed = Assumptions.of_device(params.models.device).with_changes(assume or [])
    counted, much = count_all(params, root), quantities(params, people)
    weights_gb = weights_bytes(params, root, counted.base.parameters) / 1e9
    stages = estimate(params, counted, much, assumed, weights_gb)

    def hours(much: Quantities, assumed: Assumptions) -> float:
        return sum(stage.hours for stage in estimate(params, counted, much, assumed, weights_gb))

    total = sum(stage.hours for stage in stages)
    return Plan(
        preset=preset,
        base=params.models.base.name,
        base_from=counted.base.source,
        base_parameters=counted.base.parameters,
        people=much.people,
        loras=much.loras,
        gpus=gpus,
        lora=_lora(counted),
        models=_models(counted),
        stages=stages,
        hours=total,
        days=total / 24 / gpus,
        memory_gib=max(stage.memory_gib for stage in stages),
        host_gib=max(stage.host_gib for stage in stages),
        disk_gb=sum(stage.disk_gb for stage in stages),
        weights_gb=weights_gb,
        assumptions=assumed,
        drivers=_drivers(hours, much, assumed),
        remarks=_remarks(params, counted, much, stages, assumed),
    )


def _lora(counted: Counted) -> LoraFacts:
    layout = counted.layout
    shapes = [
        Shape(out_features=rows, in_features=columns, modules=len(names))
        for (rows, columns), names in sorted(layout.by_shape.items())
    ]
    return LoraFacts(
        rank=layout.rank,
        modules=len(layout.modules),
        parameters=layout.size,
        megabytes_fp16=2 * layout.size / 1e6,
        shapes=shapes,
    )


def _models(counted: Counted) -> ModelFacts:
    return ModelFacts(
        lae_parameters=counted.lae_parameters,
        latent_size=counted.lae.latent_size,
        compression_ratio=counted.lae.compression_ratio,
        dit_parameters=counted.dit_parameters,
        dit_block_parameters=parameters(counted.transformer.layers),
    )


def _drivers(hours: Callable[[Quantities, Assumptions], float], much: Quantities, assumed: Assumptions) -> list[Driver]:
    """Every number's elasticity, the largest first; assumptions before quantities where they are equal."""
    now = hours(much, assumed)
    found = []
    for name, field in Assumptions.model_fields.items():
        value = getattr(assumed, name)
        if field.annotation is not str:
            then = hours(much, assumed.model_copy(update={name: value * _STEP}))
            found.append(Driver(name=name, value=value, elasticity=_slope(now, then), assumed=True))
    for each in fields(much):
        value = getattr(much, each.name)
        if not isinstance(value, bool):
            then = hours(replace(much, **{each.name: value * _STEP}), assumed)
            found.append(Driver(name=each.name, value=value, elasticity=_slope(now, then), assumed=False))
    ranked = sorted(found, key=lambda driver: (-abs(driver.elasticity), not driver.assumed))
    return [driver for driver in ranked if abs(driver.elasticity) >= 0.01]


def _slope(now: float, then: float) -> float:
    """Rounded, so that rounding errors do not order what is equal."""
    if not now:
        return 0.0
    ratio = then / now
    return round((ratio - 1) / (_STEP - 1) if ratio >= 1 else -(1 / ratio - 1) / (_STEP - 1), 2)


def _remarks(
    params: Params, counted: Counted, much: Quantities, stages: list[StageCost], assumed: Assumptions
) -> list[str]:
    """Cross-checks with the paper, and what does not fit."""
    hours = {stage.name: stage.hours for stage in stages}
    remarks = []
    if counted.base.unet.config.cross_attention_dim == SDXL.cross_attention_dim:
        remarks += _against_paper(params, counted, much, hours, assumed)
    else:
        remarks.append("the paper's GPU hours are of SDXL; nothing to compare this base model's with")
    if not much.drawn:
        remarks.append("identities: this source's pictures are not made by the base model; their making is not counted")
    test = much.people * params.identities.pictures.splits.test
    if test < params.evaluate.people:
        remarks.append(
            f"evaluate: wants {params.evaluate.people} people of the split test, where about {test:.0f} are expected: "
            "raise identities.count or splits.test, or lower evaluate.people"
        )
    for stage in stages:
        if stage.memory_gib > assumed.memory_gib:
            remarks.append(
                f"{stage.name}: needs about {stage.memory_gib:.0f} GiB, {assumed.machine} has "
                f"{assumed.memory_gib:.0f}: lower its batch"
            )
        if stage.host_gib > _LARGE_HOST_GIB:
            remarks.append(
                f"{stage.name}: holds about {stage.host_gib:,.0f} GiB in main memory: lower evaluate.people or "
                "evaluate.images_per_prompt where the machine has less"
            )
    return remarks


def _against_paper(
    params: Params, counted: Counted, much: Quantities, hours: dict[str, float], assumed: Assumptions
) -> list[str]:
    """The paper's trainings by this plan's counting, beside what it reports."""
    remarks = []
    for name, loop, cost, batch in (
        ("lae", params.lae.loop, counted.lae_train, 4),
        ("dit", params.dit.loop, counted.dit_train, 32),
    ):
        theirs = cost.times(PAPER_EPOCHS * PAPER_LORAS / batch, batch)
        estimated = assumed.seconds(theirs.flops, theirs.bytes + theirs.weight_bytes) / 3600
        epochs = loop.steps * loop.batch_size / max(1.0, much.train_loras)
        silent = " (if its epochs are the DiT's, which the paper does not say)" if name == "lae" else ""
        remarks.append(
            f"{name}: {epochs:,.0f} epochs of {much.train_loras:,.0f} LoRAs on weights. The paper's {PAPER_EPOCHS:,} "
            f"epochs of {PAPER_LORAS:,}{silent} would be {_two(estimated)} hours here; it reports "
            f"{PAPER_HOURS[name]:.0f} GPU hours, {_two(PAPER_HOURS[name] / estimated)} times as much, of a GPU that it "
            "does not name"
        )
    seconds = hours["corpus"] * 3600 / much.loras
    remarks.append(
        f"corpus: {_two(seconds)} s a LoRA; the paper's table 1 has {PAPER_LORA_SECONDS:.0f} s, "
        f"{_two(PAPER_LORA_SECONDS / seconds)} times as much"
    )
    return remarks


def _two(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.10g}"
