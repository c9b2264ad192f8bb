"""Every kernel as machine code of GPUs that need not be here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^sm_(\d+) +(\w+) +\d+ registers +(\d+) B spilled +(\d+) B shared", re.MULTILINE)
SHARED = 99 * 1024
"""Bytes of shared memory that a block can have on the smallest of these (compute capability 8.6)."""


def test_every_kernel_compiles_for_gpus_without_spilling() -> None:
    pytest.importorskip("triton")
    if not any(map(shutil.which, ("gcc", "cc", "clang"))):
        pytest.skip("Triton compiles its launcher with a C compiler")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(ROOT / "kernels")
    command = [sys.executable, str(ROOT / "kernels" / "benchmarks" / "ahead.py"), "--arch", "80", "90"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    found = LINE.findall(done.stdout)
    assert {arch for arch, *_ in found} == {"80", "90"}
    names = {name for _, name, *_ in found}
    assert {"wp_loss_kernel", "finish_kernel", "lora_merge_kernel", "lora_product_kernel", "lora_grad_kernel"} <= names
    assert [line for line in found if int(line[2]) > 0 or int(line[3]) > SHARED] == []
