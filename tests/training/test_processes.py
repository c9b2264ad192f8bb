"""Two processes of a launcher train what one trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.lora import LoraLayout
from tests.launch import launch


def test_two_processes_reach_the_losses_of_one(
    base: FrozenBase, people: PeopleFolder, make_town: Callable[..., Any], tmp_path: Path
) -> None:
    layout = LoraLayout.from_unet(base.unet, ("attention",), 2)
    village = make_town(tmp_path / "corpus", 14, layout, 0.05)
    village.features.save(tmp_path / "features.safetensors")
    base.pipeline.save_pretrained(tmp_path / "base")
    given = [tmp_path / "corpus", tmp_path / "features.safetensors", tmp_path / "base", people.folder]
    found = []
    for processes in (1, 2):
        out = tmp_path / f"by_{processes}"
        launch(processes, "tests.training.processes", *given, out)
        found.append(json.loads((out / "done.json").read_text()))
    one, two = found
    assert (one["processes"], two["processes"]) == (1, 2)
    for stage in ("lae", "dit", "effect", "refine"):
        for first, second in zip(one["histories"][stage], two["histories"][stage], strict=True):
            assert first.keys() == second.keys()
            for key, value in first.items():
                # AdamW's first steps make rounding of gradients near zero as large as any step.
                assert second[key] == pytest.approx(value, rel=2e-3, abs=1e-6), (stage, key)
