"""A fake of the world's models, so that the registry's work is tested without a training."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from difflora.world import registry
from difflora.world.bars import Bar

FILES = {
    "vae": "base/vae/model.bin",
    "text": "base/text_encoder/model.bin",
    "base": "base/unet/model.bin",
    "detector": "insightface/models/world/det.onnx",
    "recogniser": "insightface/models/world/rec.onnx",
    "judge": "evaluation/recogniser/model.bin",
    "clip": "clip/model.bin",
    "dino": "evaluation/dino/model.bin",
    "classifiers": "evaluation/classifiers/model.bin",
    "reward": "evaluation/reward/model.bin",
    "start": "start/start.safetensors",
    "photomaker": "photomaker/model.bin",
    "style_judge": "style/judge.onnx",
    "style_base": "style/base/model.bin",
}


@dataclass
class FakeWorld:
    """What the fakes were asked to do, and how they are to answer."""

    trained: list[str] = field(default_factory=list)
    verified: list[tuple[str, int, int | None]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=lambda: {"steps": 20, "seconds": 1.26, "settings": {"lr": 0.1}})
    content: str = "weights"

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for model in registry.MODELS:
            module = ModuleType(model.module)
            setattr(module, f"train_{model.name}", self._trainer(model.name))
            setattr(module, f"verify_{model.name}", self._verifier(model.name))
            monkeypatch.setitem(sys.modules, model.module, module)
            if model.bars:
                monkeypatch.setitem(sys.modules, model.bars, module)

    def _trainer(self, name: str) -> Any:
        def train(settings: Any, assets: Path, work: Path) -> dict[str, Any]:
            assert settings is None
            self.trained.append(name)
            path = assets / FILES[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{self.content} of {name}")
            return dict(self.facts)

        return train

    def _verifier(self, name: str) -> Any:
        def verify(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
            assert (assets / FILES[name]).is_file()
            self.verified.append((name, seed, count))
            return [
                Bar(f"{name} score", 0.9, self.figures.get(name, 0.95)),
                Bar(f"{name} error", 0.1, 0.05, at_least=False),
                Bar(f"{name} distance", float("nan"), 12.5),
            ]

        return verify


@pytest.fixture
def fake_world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    """Stands in for every model of the world."""
    world = FakeWorld()
    world.install(monkeypatch)
    return world
