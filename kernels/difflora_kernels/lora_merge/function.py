"""Merging LoRAs into all matrices of a model once: what people call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from difflora_kernels.lora_merge.layout import FlatLayout, Statistics
from difflora_kernels.lora_merge.merge import Scale, check_flat, check_weights, scales_of
from difflora_kernels.lora_merge.op import lora_merge


def merge_lora(
    weights: Sequence[Tensor],
    flat: Tensor,
    layout: FlatLayout,
    scale: Scale = 1.0,
    *,
    out: Sequence[Tensor] | None = None,
    statistics: Statistics | None = None,
    check: bool = True,
) -> list[Tensor]:
    """``W' = W + sum_l scale_l * B_l A_l`` for all matrices, straight from the flat vectors; see ``LoraMerge``.

    ``LoraMerge`` does the same for the same tensors again and again, with the preparation done once.

    Args:
        weights: W of each matrix, (m, n) or (m, in, kh, kw), in the layout's order.
        flat: (D,), or (L, D) for several LoRAs at once. No gradient.
        layout: of the flat vectors.
        scale: alpha / rank included; one number, or one for each LoRA.
        out: where W' goes; None for new tensors, ``weights`` for in place (what was there cannot be had back).
        statistics: what un-normalises ``flat``; None where it is not normalised.
        check: whether to look, once, for numbers that are not finite. The look waits for the device, and
            ``torch.compile`` cannot take it into a graph.

    Returns:
        W' of each matrix: ``out``, or the new tensors.

    Raises:
        ValueError: if something does not fit, or ``flat`` requires a gradient: a merge has none.
        FloatingPointError: if a number of W' is not finite; W is as it was unless it is also W'.
    """
    if flat.requires_grad and torch.is_grad_enabled():
        raise ValueError("flat requires a gradient, and a merge has none; detach it, or apply the LoRA to activations")
    with torch.no_grad():
        out = [torch.empty_like(weight) for weight in weights] if out is None else list(out)
        check_weights(weights, out, layout)
        flat = check_flat(flat, layout)
        statistics = statistics or Statistics()
        statistics.check(layout, flat.device)
        scales = scales_of(scale, flat)
        bad = lora_merge(list(weights), out, flat, scales, statistics.mean, statistics.spread, layout.rank)
    if check and (found := bad.nonzero().flatten().tolist()):
        raise FloatingPointError(f"merge: numbers of {len(found)} matrices are not finite, first of matrix {found[0]}")
    return out
