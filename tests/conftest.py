"""What every test shares: one thread each, since pytest-xdist already fills the cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
