"""What every test shares: one thread each, since pytest-xdist already fills the cores, and Triton's interpreter."""

from __future__ import annotations

import os

import torch

torch.set_num_threads(1)

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported, which any test's import may do
