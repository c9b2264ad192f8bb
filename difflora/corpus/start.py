"""Where the LoRAs of a corpus start: at a random A, or at one from a file that was learnt over many people."""

# ruff: noqa: N806 - lora_A is the field's own name.

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from difflora.errors import BadFile
from difflora.lora import LoraLayout, LoraWeights
from difflora.lora.base_model import BaseModelId


def initial_flat(layout: LoraLayout, seed: int) -> Tensor:
    """A random start, (D,) float32: A as peft draws it (uniform, within 1 / sqrt(n)), B zero.

    Args:
        layout: what the numbers are.
        seed: the same seed gives the same start.
    """
    generator = torch.Generator().manual_seed(seed)
    flat = torch.zeros(layout.size)
    for module in layout.modules:
        lora_A, _ = layout.views(flat)[module.name]
        drawn = torch.rand(lora_A.shape, generator=generator)  # (r, n)
        lora_A.copy_((2 * drawn - 1) / math.sqrt(module.columns))
    return flat


def read_start(path: Path, layout: LoraLayout, base: BaseModelId, scale: float) -> Tensor:
    """A start from its file, (D,) float32.

    Args:
        path: a LoRA file.
        layout: what its numbers must be.
        base: the base model that it must be of.
        scale: alpha / rank that it must have been learnt with.

    Raises:
        BadFile: if it is no such LoRA.
    """
    read = LoraWeights.load(path, layout, base)
    if not math.isclose(read.factor, scale, rel_tol=1e-6):
        raise BadFile(f"{path}: a start of alpha / rank {read.factor:g}, the LoRAs have {scale:g}; learn one for them")
    return read.flat.float()
