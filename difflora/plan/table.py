"""The plan as people read it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from difflora.plan.assumptions import Assumptions
from difflora.plan.plan import Plan
from difflora.plan.summary import summary


def print_plan(plan: Plan, console: Console) -> None:
    """Writes facts, a table of steps, what the hours hang on, assumptions and remarks."""
    for line in _facts(plan):
        console.print(line, highlight=False)
    console.print(_table(plan))
    for line in summary(plan):
        console.print(line, highlight=False)
    if plan.gpus > 1:
        console.print(f"On {plan.gpus} devices, shared out evenly: {plan.days:,.1f} days.", highlight=False)
    for line in (*_drivers(plan), "", *plan.remarks, "", *_assumptions(plan.assumptions)):
        console.print(line, highlight=False)


def _facts(plan: Plan) -> list[str]:
    lora, models = plan.lora, plan.models
    shapes = ", ".join(f"{each.out_features}x{each.in_features} ({each.modules})" for each in lora.shapes)
    return [
        f"{plan.preset}: {plan.base} ({plan.base_parameters / 1e6:,.0f} M parameters, {plan.base_from})",
        f"LoRA: {lora.parameters:,} numbers, {lora.megabytes_fp16:,.1f} MB in fp16: rank {lora.rank}, {lora.modules} "
        f"modules of {len(lora.shapes)} shapes, m x n (how many): {shapes}",
        f"LAE: {models.lae_parameters / 1e6:,.1f} M parameters, latents of {models.latent_size:,} numbers, "
        f"{models.compression_ratio:,.1f} times smaller",
        f"DiT: {models.dit_parameters / 1e6:,.1f} M parameters, {models.dit_block_parameters / 1e6:,.1f} M in blocks",
        f"People: {plan.people:,}, {plan.loras:,.0f} LoRAs of them",
    ]


def _table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for name in ("hours", "petaFLOP", "TB moved", "bound by", "device GiB", "host GiB", "disk GB"):
        table.add_column(name, justify="right")
    for each in plan.stages:
        table.add_row(
            each.name,
            _number(each.hours),
            _number(each.petaflops),
            _number(each.terabytes),
            each.bound,
            _number(each.memory_gib),
            _number(each.host_gib),
            _number(each.disk_gb),
        )
    return table


def _drivers(plan: Plan) -> list[str]:
    assumed = [each for each in plan.drivers if each.assumed]
    others = [each for each in plan.drivers if not each.assumed]
    if not assumed:
        return []
    first = assumed[0]
    lines = [
        f"The hours hang most on {first.name} = {first.value:g}, which is assumed: 1% more of it is "
        f"{first.elasticity:+.2f}% of the hours."
    ]
    for words, drivers in (("Assumed too", assumed[1:]), ("Of the parameter file", others)):
        if drivers:
            lines.append(f"{words}: {', '.join(f'{each.name} {each.elasticity:+.2f}%' for each in drivers[:6])}.")
    return lines


def _assumptions(assumed: Assumptions) -> list[str]:
    lines = ["Assumed (--assume NAME=VALUE for others):"]
    for name, field in Assumptions.model_fields.items():
        value = getattr(assumed, name)
        default = "" if value == field.default else f" (H200: {field.default})"
        lines.append(f"  {name} = {value}{default}: {field.description}")
    return lines


def _number(value: float) -> str:
    if not value:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
