"""The LoRA merge as an operator of torch, so that compilers see one node with shapes and what it changes."""

from __future__ import annotations

import torch
from torch import Tensor

from difflora_kernels.lora_merge.layout import FlatLayout, Statistics
from difflora_kernels.lora_merge.merge import LoraMerge


@torch.library.custom_op("difflora_kernels::lora_merge", mutates_args=("out",))
def lora_merge(
    weights: list[Tensor],
    out: list[Tensor],
    flat: Tensor,
    scales: Tensor,
    mean: Tensor | None,
    spread: Tensor | None,
    rank: int,
) -> Tensor:
    """Fills ``out``, which may be ``weights``; (K,) bool: where a number is not finite. See ``LoraMerge``."""
    layout = FlatLayout(tuple((len(weight), weight[0].numel()) for weight in weights), rank)
    return LoraMerge(weights, out, layout)(flat, scales, Statistics(mean, spread))


@lora_merge.register_fake
def _(
    weights: list[Tensor],
    out: list[Tensor],
    flat: Tensor,
    scales: Tensor,
    mean: Tensor | None,
    spread: Tensor | None,
    rank: int,
) -> Tensor:
    return torch.empty(len(weights), dtype=torch.bool, device=flat.device)
