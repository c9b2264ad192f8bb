"""Every kernel as machine code of GPUs that need not be here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = 99 * 1024
"""Bytes of shared memory that a block can have on the smallest of these (compute capability 8.6)."""


def test_every_kernel_compiles_for_gpus_without_spilling() -> None:
    pytest.importorskip("triton")
    if not any(map(shutil.which, ("gcc", "cc", "clang"))):
        pytest.skip("Triton compiles its launcher with a C compiler")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(ROOT / "kernels")
    command = [sys.executable, str(ROOT / "kernels" / "benchmarks" / "ahead.py"), "--json", "--arch", "80", "90"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["arch"] for row in found} == {80, 90}
    names = {row["kernel"] for row in found}
    assert {"wp_loss_kernel", "finish_kernel", "lora_merge_kernel", "lora_product_kernel", "lora_grad_kernel"} <= names
    assert [row for row in found if row["spilled"] > 0 or row["shared"] > SHARED] == []
