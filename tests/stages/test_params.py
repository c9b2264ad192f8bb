from __future__ import annotations

import re
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from difflora.errors import BadFile, BadParameter
from difflora.stages.params import Params, load_params
from difflora.stages.run import STAGES

ROOT = Path(__file__).parents[2]


def _change(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
    values[last] = value


def test_the_embedded_default_is_valid_and_a_preset() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.evaluate.people >= 32
    assert len(params.evaluate.prompts) == 6
    assert (ROOT / "presets" / "embedded.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


@pytest.mark.parametrize("path", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_valid(path: Path) -> None:
    load_params(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("identities.count", 0, "identities.count"),
        ("identities.pictures.keep", 10_000, "keep is 10000"),
        ("identities.pictures.references", 1, "references: give at least 2"),
        ("corpus.dreambooth.rank", 0, "corpus.dreambooth.rank"),
        ("corpus.colour", "red", "corpus.colour"),
        ("lae.loop.lr", -1, "lae.loop.lr"),
        ("dit.model.width", 7, "dit.model"),
        ("dit.effect.loop.steps", "many", "dit.effect.loop.steps"),
        ("dit.refine", {"rounds": 1, "steps": 2}, "through is 3 of 2 steps"),
        ("dit.effect.likeness", {"weight": 1, "steps": 4, "through": 5}, "through is 5 of 4 steps"),
        ("evaluate.num_inference_steps", 100_000, "evaluate.num_inference_steps is 100000"),
        ("register.num_inference_steps", 100_000, "register.num_inference_steps is 100000"),
        ("models.base.name", "", "models.base.name"),
        ("corpsu", {}, "corpsu"),
    ],
)
def test_mistakes_name_file_and_key(key: str, value: Any, said: str, tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    _change(values, key, value)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(BadParameter, match=said) as raised:
        load_params(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(("text", "said"), [("a: [1", "not readable as YAML"), ("- 1", "holds no YAML mapping")])
def test_what_is_no_mapping_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(BadFile, match=said):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(BadFile, match="no such file"):
        load_params(tmp_path / "none.yaml")


def _filled(need: str, preset: str = "embedded") -> str:
    """A dependency with the parameters that it names, as DVC reads it."""
    values = yaml.safe_load((ROOT / "presets" / f"{preset}.yaml").read_text())
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(reduce(getitem, match[1].split("."), values)), need)


def test_dvcs_inputs_are_those_of_whichever_preset() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    needs = {need for stage in stages.values() for need in stage["deps"]}
    for preset in ("embedded", "embedded-photomaker", "embedded-style", "sdxl", "sd15-style", "paper"):
        models = load_params(ROOT / "presets" / f"{preset}.yaml").models
        filled = {_filled(need, preset) for need in needs}
        assert {str(models.base.folder), str(models.faces.folder), str(models.images)} <= filled
        assert not any(need.startswith("weights") for need in filled) or preset != "embedded"
    resolver = pytest.importorskip("dvc.parsing").DataResolver
    from dvc.repo import Repo

    with Repo(ROOT, uninitialized=True) as repo:
        found = resolver(repo, str(ROOT), {"stages": stages}).resolve()["stages"]
    assert found["corpus"]["deps"] == ["assets/embedded/base", "assets/embedded/start", "data/people"]


def test_dvc_knows_every_step_and_its_sections() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert tuple(stages) == STAGES
    sections = set(Params.model_json_schema(by_alias=True)["properties"])
    for name, stage in stages.items():
        assert stage["cmd"] == f"difflora stage {name}"
        assert {key.split(".")[0] for key in stage["params"]} <= sections
        assert name in {key.split(".")[0] for key in stage["params"]}
    made: set[str] = set()
    for stage in stages.values():
        for need in map(_filled, stage["deps"]):
            assert need in made or (ROOT / need).exists(), f"{need} is made by no earlier step"
        for out in (*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])):
            made.add(out if isinstance(out, str) else next(iter(out)))


@pytest.mark.parametrize("key", ["effect.likeness.weight", "refine.rounds"])
def test_whole_pictures_have_no_faces_to_compare(key: str, tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "presets" / "embedded-style.yaml").read_text())
    _change(values, f"dit.{key}", 1)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(BadParameter, match=rf"dit\.{key}: whole pictures have no faces"):
        load_params(path)
