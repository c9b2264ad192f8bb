"""Weights that are missing, cut short, swapped or pickled are refused by name, before anything loads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from difflora.errors import BadFile
from difflora.weights import lock as locks
from difflora.weights.check import check_need
from difflora.weights.lock import Lock, SeenFile
from difflora.weights.need import Need
from tests.checkpoints import photomaker_v1, sdxl_pipeline

SDXL, SD15 = Need("base", "pipeline", Path("sdxl")), Need("base", "pipeline", Path("sd15"))
SINGLE = Need("file", "single file", Path("sdxl.safetensors"), config=Path("sdxl"))
CLIP = Need("images", "CLIP", Path("clip"))
DINO, REWARD = Need("dino", "DINO", Path("dino")), Need("reward", "ImageReward", Path("reward"))
FACES = Need("faces", "face pack", Path("faces/models/world"))
JUDGE = Need("independent", "face recogniser", Path("recogniser.onnx"))
UNET = "unet/diffusion_pytorch_model.safetensors"


def check(need: Need, root: Path, lock: Lock | None = None) -> dict[str, SeenFile]:
    return check_need(need, root, lock or Lock(root / "weights.lock.json"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64])


def test_what_is_whole_passes_and_every_file_is_seen(pristine: Path) -> None:
    for need in (SDXL, SD15, SINGLE, CLIP, DINO, REWARD, FACES, JUDGE):
        seen = check(need, pristine)
        assert {file.trust for file in seen.values()} == {"recorded"}
        assert all(len(file.sha256) == 64 and file.size > 0 for file in seen.values())
    names = set(check(SDXL, pristine))
    assert {f"sdxl/{UNET}", "sdxl/text_encoder_2/model.safetensors", "sdxl/model_index.json"} <= names
    assert any(name.startswith("sdxl/tokenizer_2/") for name in names)
    assert {Path(name).suffix for name in check(FACES, pristine)} == {".onnx"}


def _swap(one: str, other: str) -> Callable[[Path], None]:
    def swap(root: Path) -> None:
        shutil.copy(root / other, root / one)

    return swap


@pytest.mark.parametrize(
    ("need", "damage", "said"),
    [
        (SDXL, lambda root: cut(root / "sdxl" / UNET), rf"{UNET}: not a whole safetensors file"),
        (SDXL, lambda root: (root / "sdxl" / UNET).unlink(), rf"{UNET}: no such file"),
        (SDXL, _swap(f"sdxl/{UNET}", f"sd15/{UNET}"), rf"{UNET}: is not the UNet2DConditionModel .* swapped"),
        (
            SDXL,
            _swap("sdxl/text_encoder/model.safetensors", "sdxl/text_encoder_2/model.safetensors"),
            r"text_encoder/model.safetensors: is not the CLIPTextModel",
        ),
        (SDXL, lambda root: shutil.rmtree(root / "sdxl" / "tokenizer"), r"sdxl/tokenizer: holds no tokenizer"),
        (
            SDXL,
            lambda root: (root / "sdxl" / "scheduler" / "scheduler_config.json").unlink(),
            r"scheduler_config\.json: no such file",
        ),
        (SDXL, lambda root: shutil.rmtree(root / "sdxl"), r"sdxl: not there; copy it there"),
        (SINGLE, lambda root: cut(root / "sdxl.safetensors"), r"sdxl\.safetensors: not a whole safetensors file"),
        (SINGLE, _swap("sdxl.safetensors", f"sdxl/vae/{UNET[5:]}"), r"sdxl\.safetensors: holds no UNet"),
        (CLIP, lambda root: cut(root / "clip" / "model.safetensors"), r"model\.safetensors: not a whole"),
        (
            DINO,
            _swap("dino/model.safetensors", "clip/model.safetensors"),
            r"dino/model\.safetensors: is not the ViTModel",
        ),
        (REWARD, _swap("reward/model.safetensors", "dino/model.safetensors"), r"holds no ImageReward"),
        (REWARD, lambda root: (root / "reward" / "vocab.txt").unlink(), r"vocab\.txt: no such file"),
        (CLIP, _swap("clip/model.safetensors", f"sdxl/{UNET}"), r"model\.safetensors: is not the CLIPModel"),
        (FACES, lambda root: cut(root / "faces/models/world/recogniser.onnx"), "not a readable face pack"),
        (FACES, _swap("faces/models/world/recogniser.onnx", f"sdxl/{UNET}"), "not a readable face pack"),
        (JUDGE, lambda root: cut(root / "recogniser.onnx"), r"recogniser\.onnx"),
    ],
)
def test_damage_is_named(need: Need, damage: Callable[[Path], None], said: str, root: Path) -> None:
    damage(root)
    with pytest.raises(BadFile, match=said):
        check(need, root)


def test_a_public_packs_files_must_have_their_names(root: Path) -> None:
    (root / "faces" / "models" / "world").rename(root / "faces" / "models" / "buffalo_l")
    with pytest.raises(BadFile, match=r"buffalo_l/det_10g\.onnx: no such file"):
        check(Need("faces", "face pack", Path("faces/models/buffalo_l")), root)


def test_pickles_are_refused_with_what_to_do(root: Path) -> None:
    (root / "sdxl" / UNET).rename(root / "sdxl" / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(BadFile, match=r"diffusion_pytorch_model\.bin: is a pickle, which is never opened"):
        check(SDXL, root)
    (root / "clip" / "model.safetensors").rename(root / "clip" / "pytorch_model.bin")
    with pytest.raises(BadFile, match=r"pytorch_model\.bin: is a pickle"):
        check(CLIP, root)
    for kind, name in (("single file", "sd.ckpt"), ("PhotoMaker", "photomaker-v1.bin")):
        (root / name).write_bytes(b"\x80\x04.")
        with pytest.raises(BadFile, match=rf"{name}: is a pickle.*`difflora weights convert`"):
            check(Need("file", kind, Path(name), config=Path("sdxl")), root)  # type: ignore[arg-type]


def test_photomaker_as_it_is_converted(root: Path) -> None:
    need = Need("identities.options.photomaker", "PhotoMaker", Path("photomaker.safetensors"))
    parts = photomaker_v1(sdxl_pipeline().unet)
    tensors = {f"{part}.{key}": value.contiguous() for part, each in parts.items() for key, value in each.items()}
    save_file(tensors, root / need.path)
    assert list(check(need, root)) == ["photomaker.safetensors"]
    cut(root / need.path)
    with pytest.raises(BadFile, match=r"photomaker\.safetensors: not a readable safetensors file"):
        check(need, root)
    shutil.copy(root / "clip" / "model.safetensors", root / need.path)
    with pytest.raises(BadFile, match=r"photomaker\.safetensors: .* it is no PhotoMaker v1"):
        check(need, root)


def test_configurations_alone_do_where_a_single_file_has_the_weights(root: Path) -> None:
    for path in (root / "sdxl").rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(BadFile):
        check(SDXL, root)
    seen = check(Need("base", "pipeline", Path("sdxl"), weights=False), root)
    assert {Path(name).suffix for name in seen} <= {".json", ".txt"}
    assert list(check(SINGLE, root)) == ["sdxl.safetensors"]


def test_another_pipeline_is_refused(root: Path) -> None:
    index = root / "sdxl" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "FluxPipeline"}))
    with pytest.raises(BadFile, match="a FluxPipeline"):
        check(SDXL, root)


def test_a_change_after_the_first_check_is_found(root: Path) -> None:
    lock = Lock(root / "weights.lock.json")
    lock.keep(check(SDXL, root, lock))
    again = Lock(root / "weights.lock.json")
    assert {file.trust for file in check(SDXL, root, again).values()} == {"locked"}
    path = root / "sdxl" / UNET
    tensors = load_file(path)
    key = min(tensors)
    tensors[key] = tensors[key] + 1e-3  # same shapes: the header tells nothing
    save_file(tensors, path)
    with pytest.raises(BadFile, match=r"unet/.*: its sha256 is .* recorded .* damaged or swapped"):
        check(SDXL, root, again)


def test_a_published_file_is_known_without_a_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "sdxl.safetensors").rename(root / "sd_xl_base_1.0.safetensors")
    need = Need("file", "single file", Path("sd_xl_base_1.0.safetensors"), config=Path("sdxl"))
    with pytest.raises(BadFile, match=r"that of the published sd_xl_base_1\.0\.safetensors is 31e35c80"):
        check(need, root)
    found = locks.sha256_file(root / need.path)
    monkeypatch.setattr(locks, "SHA256", {"sd_xl_base_1.0.safetensors": found})
    assert [file.trust for file in check(need, root).values()] == ["published"]


def test_a_file_that_was_there_is_missed(root: Path) -> None:
    lock = Lock(root / "weights.lock.json")
    lock.keep(check(CLIP, root, lock))
    (root / "clip" / "processor_config.json").unlink()
    with pytest.raises(BadFile, match=r"clip/processor_config\.json: was there when"):
        check(CLIP, root, Lock(root / "weights.lock.json"))


def test_a_damaged_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.lock.json").write_text('{"files": [1]}')
    with pytest.raises(BadFile, match="holds no lock of weights"):
        Lock(tmp_path / "weights.lock.json")
