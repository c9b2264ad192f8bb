from __future__ import annotations

import inspect

import pytest

from difflora.errors import BadParameter
from difflora.world.registry import GROUPS, MODELS, WorldModel, names, owner_of, resolve


def test_order_of_training() -> None:
    expected = [
        "detector",
        "recogniser",
        "vae",
        "text",
        "base",
        "judge",
        "clip",
        "dino",
        "classifiers",
        "reward",
        "start",
        "photomaker",
        "style_judge",
        "style_base",
    ]
    assert [model.name for model in resolve(())] == expected
    assert [model.name for model in resolve(["clip", "faces", "vae"])] == ["detector", "recogniser", "vae", "clip"]


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(BadParameter, match=r"no model is named 'unet'; there are: detector, .*, faces, .*style"):
        resolve(["vae", "unet"])


def test_groups_and_needs_name_models() -> None:
    known = {model.name for model in MODELS}
    for members in GROUPS.values():
        assert set(members) <= known
    for model in MODELS:
        assert set(model.verified_with) | set(model.rewrites) <= known
    assert len(names()) == len(set(names()))


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("base/vae/config.json", "vae"),
        ("base/unet/diffusion_pytorch_model.safetensors", "base"),
        ("base/model_index.json", "base"),
        ("insightface/models/world/det_world.onnx", "detector"),
        ("insightface/models/world/w600k.onnx", "recogniser"),
        ("clip/model.safetensors", "clip"),
        ("evaluation/recogniser/model.safetensors", "judge"),
        ("evaluation/dino/config.json", "dino"),
        ("evaluation/classifiers/config.json", "classifiers"),
        ("evaluation/reward/config.json", "reward"),
        ("start/start.safetensors", "start"),
        ("style/judge.onnx", "style_judge"),
        ("style/base/unet/config.json", "style_base"),
        ("notes.txt", None),
    ],
)
def test_every_file_has_one_owner(path: str, owner: str | None) -> None:
    assert owner_of(path) == owner


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_can_be_trained_and_measured(model: WorldModel) -> None:
    assert callable(model.train)
    assert callable(model.verify)
    assert list(inspect.signature(model.train).parameters)[:3] == ["settings", "assets", "work"]
    assert list(inspect.signature(model.verify).parameters) == ["assets", "seed", "count"]
