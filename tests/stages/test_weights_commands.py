"""``difflora weights`` on a workspace with small weights in the public formats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from difflora.cli import main
from difflora.stages.needs import needs_of
from difflora.stages.params import load_params
from difflora.stages.presets import preset_path
from tests.checkpoints import sdxl_pipeline

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"
REVISION = "f" * 40


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub has."""
    folder = tmp_path_factory.mktemp("hub")
    sdxl_pipeline().save_pretrained(folder / "sdxl")
    shutil.copytree(ASSETS / "clip", folder / "clip")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With parameters and face models, and nothing fetched yet."""
    values = yaml.safe_load(preset_path("embedded").read_text())
    values["models"] |= {
        "base": {"folder": "weights/sdxl", "name": "tiny", "hub": {"name": "owner/sdxl", "revision": REVISION}},
        "faces": {"folder": "weights/insightface", "pack": "world", "det_size": 128},
        "images": "weights/clip",
        "images_hub": {"name": "openai/clip-vit-large-patch14", "revision": REVISION},
    }
    values["evaluate"]["independent"] = "weights/recogniser.onnx"
    values["evaluate"]["metrics"] = {"clip": "weights/clip"}
    values["identities"]["options"] = {"folder": "data/FFHQ"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.copytree(ASSETS / "insightface", tmp_path / "weights" / "insightface")
    shutil.copy(ASSETS / "evaluation" / "recogniser" / "recogniser.onnx", tmp_path / "weights")

    def snapshot(name: str, *, local_dir: Path, **_: Any) -> None:
        shutil.copytree(hub / ("clip" if "clip" in name else "sdxl"), local_dir, dirs_exist_ok=True)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_missing_fetched_checked_changed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("weights", "check") == 1
    shown = capsys.readouterr().out
    assert (
        "missing models.base.folder: weights/sdxl: not there; `difflora weights fetch` takes it from owner/sdxl"
        in shown
    )
    assert "ok      models.faces.folder" in shown
    assert "licence: MIT" in shown
    assert "CC BY-NC-SA 4.0" in shown  # of FFHQ, which the source's options name

    assert run("weights", "fetch") == 2
    shown = capsys.readouterr()
    assert "openai/clip-vit-large-patch14@ffff" in shown.out
    assert "read those above, then give --accept-licence; nothing was fetched" in shown.err
    assert not (workspace / "weights" / "sdxl").exists()

    assert run("weights", "fetch", "--accept-licence") == 0
    assert "weights/sdxl: fetched and checked" in capsys.readouterr().out
    locked = json.loads((workspace / "weights.lock.json").read_text())["files"]
    assert "weights/sdxl/unet/diffusion_pytorch_model.safetensors" in locked
    assert "weights/recogniser.onnx" in locked

    before = (workspace / "weights.lock.json").stat().st_mtime_ns
    assert run("weights", "check") == 0
    assert "recorded" not in capsys.readouterr().out
    assert (workspace / "weights.lock.json").stat().st_mtime_ns == before
    assert run("weights", "fetch") == 0  # everything is there: no licence is asked for

    (workspace / "weights" / "clip" / "config.json").write_text(
        (workspace / "weights/clip/config.json").read_text() + "\n"
    )
    assert run("weights", "check") == 1
    shown = capsys.readouterr().out
    assert "refused models.images: weights/clip/config.json: its sha256 is" in shown
    assert "ok      models.base.folder" in shown


def test_the_first_check_says_what_it_believes(workspace: Path, hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("sdxl", "clip"):
        shutil.copytree(hub / name, workspace / "weights" / name)
    assert run("weights", "check") == 0
    assert "believed as they are, now in weights.lock.json" in capsys.readouterr().out


def test_what_the_presets_need() -> None:
    needs = {need.key: need for need in needs_of(load_params(preset_path("sdxl")))}
    assert list(needs) == [
        "models.base.folder",
        "models.faces.folder",
        "models.images",
        "identities.options.photomaker",
        "evaluate.independent",
        "evaluate.metrics.dino",
        "evaluate.metrics.reward_options",
    ]
    root = Path("nowhere")
    licences = {key: str(need.licence(root)) for key, need in needs.items()}
    assert licences["models.base.folder"].startswith("CreativeML Open RAIL++-M")
    assert "non-commercial research" in licences["models.faces.folder"]
    assert "non-commercial research" in licences["evaluate.independent"]
    assert licences["models.images"].startswith("MIT")
    for key in ("identities.options.photomaker", "evaluate.metrics.dino", "evaluate.metrics.reward_options"):
        assert licences[key].startswith("Apache-2.0")
    style = needs_of(load_params(preset_path("sd15-style")))[0]
    assert str(style.licence(root)).startswith("CreativeML Open RAIL-M ")
    for preset in ("sdxl", "paper", "sd15-style"):
        for need in needs_of(load_params(preset_path(preset))):
            assert need.hub is None or need.revision is not None


def test_a_single_file_is_a_need_of_its_own(workspace: Path) -> None:
    values = yaml.safe_load((workspace / "params.yaml").read_text())
    values["models"]["base"]["file"] = "weights/other.safetensors"
    (workspace / "params.yaml").write_text(yaml.safe_dump(values))
    needs = needs_of(load_params(workspace / "params.yaml"))
    assert [(need.key, need.weights) for need in needs[:2]] == [
        ("models.base.folder", False),
        ("models.base.file", True),
    ]
