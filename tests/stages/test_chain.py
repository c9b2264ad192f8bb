"""The whole chain on a tiny base model, step by step; it shows nobody, but every part runs and is read again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import StableDiffusionXLPipeline

from difflora.errors import BadFile, BadParameter
from difflora.evaluation.gallery import Gallery
from difflora.files import sha256_file
from difflora.lora import LoraWeights
from difflora.manifest import check_manifest
from difflora.models import DiffLoRAPipeline
from difflora.stages.run import run_stage
from difflora.study.build import build_study
from tests.html import Page
from tests.launch import launch


def _report(root: Path, name: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((root / "reports" / name).read_text())
    return figures


def test_every_step_leaves_its_figures(chain: Path) -> None:
    assert _report(chain, "identities.json")["people"] == 12
    assert _report(chain, "corpus.json")["rows"] == 12
    trained = _report(chain, "corpus.json")["train_seconds"]
    assert trained["loras"] == 12
    assert trained["each"] > 0
    assert _report(chain, "lae.json")["compression_ratio"] > 1
    assert _report(chain, "dit.json")["parameters"] > 0
    figures = _report(chain, "evaluation.json")
    assert set(figures["methods"]) >= {"base", "retrieval", "ridge", "mlp", "generated", "teacher", "real"}
    assert figures["methods"]["real"]["face_sim"]["mean"] > 0.5, "real pictures are recognised"
    assert figures["people"] == 2
    for name, row in figures["methods"].items():
        assert {"dino", "clip_i", "diversity", "faces_found", "fid", "kid"} <= set(row), name
        assert ("clip_t" in row) == (name != "real"), name
    assert set(figures["methods"]["generated"]["seconds"]) == {
        *("encode", "sample", "decode", "merge", "images", "sum")
    }
    assert list(figures["methods"]["teacher"]["seconds"]) == ["train", "merge", "images", "sum"]
    assert figures["methods"]["teacher"]["seconds"]["train"] == trained["each"]
    assert list(figures["methods"]["reconstruction"]["seconds"])[:2] == ["train", "decode"]
    assert set(figures["methods"]["textual_inversion"]["seconds"]) == {"train", "images", "sum"}
    assert figures["methods"]["textual_inversion"] == figures["methods_native"]["textual_inversion"]
    assert set(figures["methods"]["base"]["seconds"]) == {"images", "sum"}
    assert "fid" in figures["paired"]["generated_minus_base"]
    assert figures["fid_reference"]["name"] == "real pictures of the training people"
    assert figures["metrics"]["left_out"] == {"image_reward": "evaluate.metrics.reward is null"}
    assert set(figures["metrics"]["ms_per_picture"]) == {"dino", "clip"}
    for name in (
        "people.png",
        "evaluation_people.json",
        "evaluation.md",
        "lae_loss.csv",
        "lae_modules.csv",
        "dit_loss.csv",
    ):
        assert (chain / "reports" / name).stat().st_size > 0
    for name in ("effect_loss.csv", "refine_loss.csv"):
        assert (chain / "reports" / name).read_text().startswith("step,loss,")
    assert not (chain / "data" / "checkpoints" / "dit").exists(), "checkpoints go when the step is done"


def test_the_evaluation_leaves_a_page_and_pictures_for_a_study(chain: Path, tmp_path: Path) -> None:
    figures, people = (_report(chain, name) for name in ("evaluation.json", "evaluation_people.json"))
    page = Page((chain / "reports" / "evaluation.html").read_text())
    version = json.loads((chain / "models" / "difflora" / "model_index.json").read_text())["version"]
    source = "difflora.world.identities:RenderedPeople"
    for words in (version, "none: own parameters", source, figures["setting"]["corpus"]):
        assert words in page.texts("dd")
    assert {title.split(":")[0] for title in page.texts("h3")} == set(people["people"])
    assert len(page.all("img")) == 2 * (1 + 3 * 2)
    gallery = Gallery.open(chain / "reports" / "pictures")
    assert list(gallery.index.people) == people["people"]
    assert len(gallery.index.scenes) == 2 * 2 * 2
    assert set(gallery.index.scenes[0].pictures) == set(figures["methods"]) - {"real"}
    drawn = {sha256_file(gallery.path(name)) for name in gallery.index.scenes[0].pictures.values()}
    assert len(drawn) > 2, "methods draw different pictures"
    pages = build_study(chain / "reports" / "pictures", tmp_path / "study", methods=["base", "teacher"])
    assert len(pages.items) == 2 * 2 * 2


def test_the_shipped_folder_makes_loras(chain: Path, chain_base: Path, tmp_path: Path) -> None:
    folder = chain / "models" / "difflora"
    check_manifest(folder)
    card = (folder / "README.md").read_text()
    assert "| generated |" in card
    assert "2 people whom no model has seen" in card
    pipeline = DiffLoRAPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    figures = _report(chain, "evaluation.json")
    assert pipeline.config.strength == figures["strength"]["generated"]
    assert pipeline.config.version in card
    with (tmp_path / "me.jpg").open("wb") as file:
        _reference(chain).save(file, "JPEG", quality=95)
    made = pipeline(tmp_path / "me.jpg", generator=torch.Generator().manual_seed(0)).lora
    made.save(tmp_path / "me.safetensors")
    diffusers = StableDiffusionXLPipeline.from_pretrained(chain_base)
    diffusers.load_lora_weights(tmp_path / "me.safetensors")
    assert LoraWeights.load(tmp_path / "me.safetensors").base == pipeline.lae.base


def _reference(chain: Path) -> Any:
    from PIL import Image

    from difflora.corpus.people import PeopleFolder

    people = PeopleFolder(chain / "data" / "people")
    picture = people.person(people.split("test")[0]).references[0]
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())


def test_more_people_leave_what_is_there_untouched(chain: Path, tmp_path: Path) -> None:
    root = tmp_path / "grown"
    shutil.copytree(chain, root)
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["identities"]["count"] = 14
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    before = {path.name: path.read_bytes() for path in (root / "data" / "people" / "people").iterdir()}
    index = (root / "data" / "corpus" / "index.jsonl").read_text()
    for name in ("identities", "corpus"):
        run_stage(name, root / "params.yaml")
    after = {path.name: path.read_bytes() for path in (root / "data" / "people" / "people").iterdir()}
    assert len(after) == len(before) + 2
    assert all(after[name] == data for name, data in before.items())
    assert (root / "data" / "corpus" / "index.jsonl").read_text().startswith(index)
    assert _report(root, "corpus.json")["train_seconds"]["loras"] == 14


def test_a_step_is_the_same_when_it_is_done_again(chain: Path, tmp_path: Path) -> None:
    root = tmp_path / "again"
    shutil.copytree(chain, root)
    shutil.rmtree(root / "models" / "lae")
    run_stage("lae", root / "params.yaml")
    for path in (chain / "models" / "lae").iterdir():
        assert (root / "models" / "lae" / path.name).read_bytes() == path.read_bytes(), path.name


def test_steps_out_of_turn_and_unknown_ones_are_named(chain_params: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(chain_params))
    for name, said in (
        ("corpus", "run `difflora stage identities` first"),
        ("lae", "run `difflora stage corpus` first"),
        ("dit", "run `difflora stage corpus` first"),
        ("evaluate", "run `difflora stage corpus` first"),
        ("register", r"evaluation\.json: no such file"),
    ):
        with pytest.raises(BadFile, match=said):
            run_stage(name, path)
    with pytest.raises(BadParameter, match="no step is named 'lea'"):
        run_stage("lea", path)
    assert [one.name for one in tmp_path.iterdir()] == ["params.yaml"]


def test_a_launchers_processes_share_a_training_and_one_of_them_writes(chain: Path, tmp_path: Path) -> None:
    root = tmp_path / "shared"
    shutil.copytree(chain, root)
    for stage in ("lae", "dit"):
        shutil.rmtree(root / "models" / stage)
        launch(2, "difflora.cli", "stage", stage, "--params", root / "params.yaml")
        one, two = _report(chain, f"{stage}.json"), _report(root, f"{stage}.json")
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert two["parameters"] == one["parameters"]
    assert not (root / "data" / "checkpoints" / "dit").exists()


def test_a_step_that_cannot_be_shared_says_so(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        BadParameter, match="step corpus runs in one process, but a launcher started 2; they are for lae"
    ):
        run_stage("corpus", chain / "params.yaml")
