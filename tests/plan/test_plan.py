"""Plans of the presets: full-size facts on the meta device, and the figures that their head comments give."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from difflora.errors import BadFile, BadParameter
from difflora.plan.plan import Plan, make_plan
from difflora.plan.summary import summary
from difflora.stages.params import Params, load_params
from difflora.stages.presets import head, preset_names, preset_path

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(900)


@cache  # counting SDXL takes seconds
def plan(name: str) -> Plan:
    """A preset's, without looking at weights that may lie here; the embedded world's are part of the repository."""
    root = ROOT if name.startswith("embedded") else Path("nowhere")
    return make_plan(load_params(preset_path(name)), preset=name, root=root)


def tiny(**changes: Any) -> Params:
    """The embedded preset with other values at dotted keys."""
    values = yaml.safe_load(preset_path("embedded").read_text())
    for key, value in changes.items():
        place = values
        *path, last = key.split("__")
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return Params.model_validate(values)


@pytest.mark.parametrize("name", preset_names())
def test_a_presets_head_says_what_its_plan_says(name: str) -> None:
    """One source of truth: where this fails, the line that is missing belongs into the preset's head comment."""
    lines = head(preset_path(name))
    made = plan(name)
    for line in summary(made):
        assert line in lines
    assert any(line.startswith("Hardware: ") for line in lines)
    assert any(line.strip().startswith(("dvc repro", f"difflora preset use {name} ")) for line in lines)
    assert made.memory_gib < made.assumptions.memory_gib
    assert not any("people of the split test" in remark for remark in made.remarks)


def test_sdxls_facts() -> None:
    made = plan("paper")
    lora, models = made.lora, made.models
    assert made.base_from == "built in"
    assert (lora.modules, lora.parameters, lora.rank) == (560, 4 * 1_451_520, 4)
    shapes = {(each.out_features, each.in_features): each.modules for each in lora.shapes}
    assert shapes == {(640, 640): 60, (640, 2048): 20, (1280, 1280): 360, (1280, 2048): 120}
    assert models.compression_ratio == pytest.approx(307.2)
    assert models.dit_block_parameters == pytest.approx(609.2e6, rel=1e-4)
    by_name = {stage.name: stage for stage in made.stages}
    # 1,000 steps of one picture: 6.76 TFLOP forward, and backward to the LoRA alone.
    assert by_name["corpus"].petaflops / made.loras == pytest.approx(14.9, rel=0.02)
    assert by_name["corpus"].disk_gb == pytest.approx(2 * 1161, rel=0.001)  # 1.16 TB, and DVC's copy
    assert by_name["lae"].bound == "memory"
    assert by_name["identities"].hours > by_name["corpus"].hours  # image making is the larger part
    assert next(driver.name for driver in made.drivers if driver.assumed) == "utilisation"
    assert sum("GPU hours" in remark for remark in made.remarks) == 2


def test_the_recommended_preset() -> None:
    made = plan("sdxl")
    assert made.models.compression_ratio >= 300
    assert made.models.dit_block_parameters == pytest.approx(610.9e6, rel=1e-4)
    assert made.memory_gib < 75  # an 80 GB GPU is enough


def test_people_gpus_and_assumptions_change_what_they_should() -> None:
    everyone = tiny(corpus__train_people=None)
    made = make_plan(everyone, root=ROOT)
    people = 2 * everyone.identities.count
    more = make_plan(everyone, root=ROOT, people=people, gpus=4, assume=["utilisation=0.15"])
    hours = {stage.name: stage.hours for stage in made.stages}
    assert {stage.name: stage.hours for stage in more.stages}["corpus"] == pytest.approx(4 * hours["corpus"])
    assert {stage.name: stage.hours for stage in more.stages}["lae"] <= 2 * hours["lae"]
    assert more.people == people
    assert more.days == pytest.approx(more.hours / 24 / 4)
    assert more.loras == pytest.approx(people)


def test_drivers_are_what_the_hours_do() -> None:
    made = plan("embedded")
    slopes = {driver.name: driver.elasticity for driver in made.drivers}
    doubled = make_plan(tiny(corpus__dreambooth__steps=2 * tiny().corpus.dreambooth.steps), root=ROOT)
    assert doubled.hours / made.hours - 1 == pytest.approx(slopes["lora_steps"], abs=0.02)
    assert slopes["utilisation"] == pytest.approx(-1, abs=0.05)
    assert "candidates" not in slopes  # rendered pictures cost no passes
    assert abs(made.drivers[0].elasticity) == max(abs(driver.elasticity) for driver in made.drivers)


def test_a_linear_path_and_train_people_count() -> None:
    whole, few, people = plan("embedded"), make_plan(tiny(corpus__train_people=100), root=ROOT), tiny().identities
    splits = people.pictures.splits
    assert few.loras == pytest.approx(100 + people.count * (splits.validation + splits.test))
    assert few.disk_gb < whole.disk_gb
    # D x Z twice, and the mean.
    assert whole.models.lae_parameters > 2 * whole.lora.parameters * whole.models.latent_size


def test_drawn_faces_cost_their_pictures() -> None:
    """As many passes of the base as are drawn, those with a gradient several times dearer, and their activations."""

    def dit(**likeness: int) -> Any:
        chosen = {"weight": float(bool(likeness)), **likeness}
        made = make_plan(tiny(dit__effect__enabled=True, dit__effect__likeness=chosen), root=ROOT)
        return next(stage for stage in made.stages if stage.name == "dit")

    off, last, more = dit(), dit(pictures=2, steps=8, through=1), dit(pictures=4, steps=8, through=1)
    assert off.petaflops < last.petaflops
    assert more.petaflops - off.petaflops == pytest.approx(2 * (last.petaflops - off.petaflops), rel=0.05)
    whole = dit(pictures=2, steps=8, through=8)
    ratio = (whole.petaflops - off.petaflops) / (last.petaflops - off.petaflops)
    assert 1.3 < ratio < 3, "a backward pass is one to two forward passes"
    assert whole.memory_gib > last.memory_gib > off.memory_gib


def test_moved_latents_cost_their_pictures() -> None:
    """In proportion to moves and rounds, of which each has a training on latents besides."""

    def dit(**refine: int) -> Any:
        made = make_plan(tiny(dit__refine=refine), root=ROOT)
        return next(stage for stage in made.stages if stage.name == "dit")

    off, few, many, twice = dit(), dit(rounds=1, moves=5), dit(rounds=1, moves=10), dit(rounds=2, moves=5)
    assert many.petaflops - few.petaflops == pytest.approx(few.petaflops - off.petaflops, rel=0.05)
    assert twice.petaflops - off.petaflops == pytest.approx(2 * (few.petaflops - off.petaflops), rel=1e-6)
    assert dit(rounds=1, through=8).memory_gib > dit(rounds=1, through=1).memory_gib


def test_a_test_split_that_is_too_small_is_said() -> None:
    made = make_plan(tiny(identities__count=100), root=ROOT)
    assert any("wants 32 people of the split test, where about 4 are" in remark for remark in made.remarks)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"people": 0}, "people is 0"),
        ({"gpus": 0}, "gpus is 0"),
        ({"assume": ["speed=3"]}, "NAME=VALUE with machine, utilisation"),
        ({"assume": ["utilisation"]}, "NAME=VALUE"),
        ({"assume": ["utilisation=2"]}, "utilisation=2: Input should be less than or equal to 1"),
    ],
)
def test_mistakes(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        make_plan(tiny(), root=ROOT, **options)


def test_an_unknown_base_needs_its_configurations(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"unet/config\.json: no such file, and 'difflora-embedded' is not built in"):
        make_plan(tiny(), root=tmp_path)
