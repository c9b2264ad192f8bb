"""Starting a module in several processes of Accelerate's launcher, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def launch(processes: int, module: str, *words: object) -> None:
    """Runs ``python -m module words`` in so many processes; fails with what they said if one of them does."""
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    options += ["--multi_gpu"] if processes > 1 else ["--cpu"]  # the launcher's one word for several processes
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "--num_processes", str(processes)]
    done = subprocess.run(
        [*command, "-m", module, *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-6000:]
