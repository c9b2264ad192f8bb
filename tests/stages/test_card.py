from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from difflora.stages.card import model_card
from difflora.stages.params import load_params
from tests.evaluation.test_tables import figure, figures

ROOT = Path(__file__).parents[2]


def _card(**changes: Any) -> str:
    values = figures() | {"not_yet": ["instantid"], "setting": {"train_people": 7}} | changes
    pipeline: Any = SimpleNamespace(
        lae=SimpleNamespace(layout=SimpleNamespace(modules=[1, 2], rank=4, size=1000)),
        config=SimpleNamespace(version="tiny-1", num_inference_steps=2, guidance_scale=1.0, strength=1.5),
    )
    return model_card(load_params(ROOT / "params.yaml"), pipeline, values)


def test_likeness_pictures_and_seconds_have_a_table_each() -> None:
    row = {"face_sim": figure(0.5), "dino": figure(0.25), "clip_t": figure(0.3), "fid": figure(200.0)}
    seconds = {"sample": 0.5, "images": 1.0, "sum": 1.5}
    lines = _card(
        methods={"base": {"face_sim": figure(0.1)}, "generated": {**row, "seconds": seconds}},
        fid_features="dino (vit)",
        fid_reference={"name": "coco", "pictures": 5000},
        losses={"face_sim": {"steps": {}, "says": "Most is lost here."}},
    ).splitlines()
    heads = [line for line in lines if line.startswith("#")]
    assert heads[1:5] == [
        "## Measured on 12 people whom no model has seen",
        "### Likeness and prompts",
        "### Pictures",
        "### Seconds of one person, and of one picture for images",
    ]
    assert "|  | S | Face Sim ↑ |" in lines
    assert "| generated | 1.5 | 0.500 (0.400 to 0.600) |" in lines
    assert "| instantid |  | not yet |" in lines
    assert "|  | DINO ↑ | CLIP-T ↑ | FID ↓ |" in lines
    assert "| generated | 0.250 (0.150 to 0.350) | 0.300 (0.200 to 0.400) | 200.0 (199.9 to 200.1) |" in lines
    assert any(line.startswith("| generated | 0.500 | 1.000 | 1.500 |") for line in lines)
    assert "- FID and KID: by dino (vit) against 5000 coco." in lines
    assert "By `face_sim`: Most is lost here." in lines


def test_a_card_of_likeness_alone_has_no_empty_tables() -> None:
    card = _card(methods={"generated": {"face_sim": figure(0.5)}}, seconds={}, not_yet=[])
    assert card.count("### ") == 1
    assert "- Face Sim ↑:" in card
