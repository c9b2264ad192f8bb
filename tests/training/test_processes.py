"""Two processes of a launcher train what one trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.lora import LoraLayout

ROOT = Path(__file__).parents[2]


def test_two_processes_reach_the_losses_of_one(
    base: FrozenBase, people: PeopleFolder, make_town: Callable[..., Any], tmp_path: Path
) -> None:
    layout = LoraLayout.from_unet(base.unet, ("attention",), 2)
    village = make_town(tmp_path / "corpus", 14, layout, 0.05)
    village.features.save(tmp_path / "features.safetensors")
    base.pipeline.save_pretrained(tmp_path / "base")
    given = [tmp_path / "corpus", tmp_path / "features.safetensors", tmp_path / "base", people.folder]
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = []
    for processes in (1, 2):
        out = tmp_path / f"by_{processes}"
        launcher = [sys.executable, "-m", "accelerate.commands.launch", *options, "--num_processes", str(processes)]
        launcher += ["--multi_gpu"] if processes > 1 else ["--cpu"]  # the launcher's one word for several processes
        command = [*launcher, "--main_process_port", "0", "-m", "tests.training.processes", *map(str, given), str(out)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-6000:]
        found.append(json.loads((out / "done.json").read_text()))
    one, two = found
    assert (one["processes"], two["processes"]) == (1, 2)
    for stage in ("lae", "dit", "effect"):
        for first, second in zip(one["histories"][stage], two["histories"][stage], strict=True):
            assert first.keys() == second.keys()
            for key, value in first.items():
                # AdamW's first steps make rounding of gradients near zero as large as any step.
                assert second[key] == pytest.approx(value, rel=2e-3, abs=1e-6), (stage, key)
