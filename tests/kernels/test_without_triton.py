"""The package where Triton is not installed: the torch references serve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
sys.modules["triton"] = None  # importing it fails
import torch
from difflora_kernels import FlatLayout, LoraMerge, lora_linear, weight_preserved_loss

x, made = torch.randn(2, 10), torch.randn(2, 10, requires_grad=True)
terms = weight_preserved_loss(made, x, wp_weight=1.0)
terms.loss.backward()
torch.testing.assert_close(terms.reconstruction, (made - x).square().mean())
assert made.grad.isfinite().all() and made.grad.abs().sum() > 0

layout = FlatLayout(((4, 3),), rank=2)
weight, out = torch.randn(4, 3), torch.empty(4, 3)
flat = torch.randn(layout.size)
assert not LoraMerge([weight], [out], layout)(flat, scale=0.5).any()
lora_B, lora_A = flat[:8].view(4, 2), flat[8:].view(3, 2)  # B as it is, A transposed
torch.testing.assert_close(out, weight + 0.5 * lora_B @ lora_A.T)

rows, index = torch.randn(2, 5, 3), torch.tensor([1, 0])
A, B = torch.randn(2, 2, 3), torch.randn(2, 4, 2)
y = lora_linear(torch.zeros(2, 5, 4), rows, A, B, index, scale=1.0)
torch.testing.assert_close(y, rows @ A[index].transpose(1, 2) @ B[index].transpose(1, 2))
print("served")
"""


def test_the_references_serve_without_triton() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(ROOT / "kernels")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout.strip() == "served", done.stderr
