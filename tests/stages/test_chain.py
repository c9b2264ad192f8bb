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
from difflora.lora import LoraWeights
from difflora.manifest import check_manifest
from difflora.models import DiffLoRAPipeline
from difflora.stages.run import STAGES, run_stage
from difflora.world.base import BaseSettings, build_scheduler, build_unet
from difflora.world.text import TextSettings, build_text_encoders
from difflora.world.tokenizer import build_tokenizer
from difflora.world.vae import VaeSettings, build_vae

ROOT = Path(__file__).parents[2]
TEXT = TextSettings(width=(16, 32), layers=2, head_dim=16)
LOOP = {"steps": 4, "batch_size": 4, "warmup_steps": 1, "log_every": 2, "save_every": 2}


def _parameters(base: Path) -> dict[str, Any]:
    """The embedded default's, made small enough for a minute."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    assets = ROOT / "assets" / "embedded"
    values["models"]["base"] |= {"folder": str(base), "name": "tiny"}
    values["models"]["faces"]["folder"] = str(assets / "insightface")
    values["models"]["images"] = str(assets / "clip")
    values["identities"]["count"] = 12
    values["identities"]["pictures"] = {
        "candidates": 6,
        "keep": 5,
        "references": 3,
        "splits": {"validation": 0.2, "test": 0.3, "seed": 1},
    }
    values["corpus"]["dreambooth"] |= {"targets": ["attention"], "steps": 2, "batch_size": 2}
    values["corpus"]["people_at_once"] = 6
    values["lae"]["model"] |= {"strides": [4, 4], "channels": [4, 4], "width": 8, "heads": 2, "mlp_width": 8}
    values["lae"]["loop"] |= LOOP
    values["dit"]["model"] |= {"num_tokens": 4, "width": 16, "heads": 2, "layers": 1}
    values["dit"]["loop"] |= LOOP
    values["dit"]["effect"] |= {"enabled": True, "images_per_step": 1}
    values["dit"]["effect"]["loop"] |= LOOP | {"steps": 2, "batch_size": 2}
    values["evaluate"] |= {
        "people": 2,
        "validation_people": 1,
        "prompts": values["evaluate"]["prompts"][:2],
        "validation_prompts": 1,
        "strengths": [1.0, 1.5],
        "num_inference_steps": 2,
        "pictures": {"steps": 2, "guidance_scale": 1.0},
        "independent": str(assets / "evaluation" / "recogniser" / "recogniser.onnx"),
        "agreement_options": {"assets": str(assets)},
        "regression": {"components": 3, "mlp_epochs": 2},
        "sheet_people": 1,
    }
    values["register"]["num_inference_steps"] = 2
    return values


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    first, second = build_text_encoders(TEXT, tokenizer)
    StableDiffusionXLPipeline(
        vae=build_vae(VaeSettings(latent_channels=4, channels=(8, 8, 16))),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=_awake(build_unet(BaseSettings(channels=(32, 32), head_dim=16), 4, TEXT.width)),
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def _awake(unet: Any) -> Any:
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) / parameter[0].numel() ** 0.5)
    return unet


@pytest.fixture(scope="module")
def chain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after all steps."""
    root = tmp_path_factory.mktemp("chain")
    (root / "params.yaml").write_text(yaml.safe_dump(_parameters(base)))
    for name in STAGES:
        run_stage(name, root / "params.yaml")
    return root


def _report(root: Path, name: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((root / "reports" / name).read_text())
    return figures


def test_every_step_leaves_its_figures(chain: Path) -> None:
    assert _report(chain, "identities.json")["people"] == 12
    assert _report(chain, "corpus.json")["people"] == 12
    assert _report(chain, "lae.json")["compression_ratio"] > 1
    assert _report(chain, "dit.json")["parameters"] > 0
    figures = _report(chain, "evaluation.json")
    assert set(figures["methods"]) >= {"base", "retrieval", "ridge", "mlp", "generated", "teacher", "real"}
    assert figures["methods"]["real"]["face_sim"]["mean"] > 0.5, "real pictures are recognised"
    assert figures["people"] == 2
    for name in ("people.png", "evaluation_people.json", "lae_loss.csv", "dit_loss.csv", "effect_loss.csv"):
        assert (chain / "reports" / name).stat().st_size > 0
    assert (chain / "reports" / "effect_loss.csv").read_text().startswith("step,loss,")
    assert not (chain / "data" / "checkpoints" / "dit").exists(), "checkpoints go when the step is done"


def test_the_shipped_folder_makes_loras(chain: Path, base: Path, tmp_path: Path) -> None:
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
    diffusers = StableDiffusionXLPipeline.from_pretrained(base)
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


def test_a_step_is_the_same_when_it_is_done_again(chain: Path, tmp_path: Path) -> None:
    root = tmp_path / "again"
    shutil.copytree(chain, root)
    shutil.rmtree(root / "models" / "lae")
    run_stage("lae", root / "params.yaml")
    for path in (chain / "models" / "lae").iterdir():
        assert (root / "models" / "lae" / path.name).read_bytes() == path.read_bytes(), path.name


def test_steps_out_of_turn_and_unknown_ones_are_named(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(_parameters(base)))
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
