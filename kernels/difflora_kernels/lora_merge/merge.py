"""All matrices of a model, prepared to be merged with LoRAs again and again."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from difflora_kernels.backend import takes_triton
from difflora_kernels.lora_merge.layout import FlatLayout, Statistics
from difflora_kernels.lora_merge.reference import LoopMerge

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Scale = float | Sequence[float] | Tensor
"""One factor for all LoRAs, or one each: (L,)."""


class Path(Protocol):
    """Part of the matrices, prepared; see ``launch.KernelMerge`` and ``reference.LoopMerge``."""

    def __call__(self, flat: Tensor, scales: Tensor, statistics: Statistics, bad: Tensor) -> None:
        """Writes every W' of the part."""
        ...


class LoraMerge:
    """``W' = W + sum_l scale_l * B_l A_l`` for all matrices of a model, straight from the flat vectors.

    Prepared once, for the same tensors again and again: each call reads every W and writes every W' once, in one
    launch for each dtype and device, and waits for nothing. Results are rounded once, from float32 sums. W is never
    changed unless it is also W': keep W pristine, and another person's LoRA replaces the last one's without a trace.

    Args:
        weights: W of each matrix, (m, n) or (m, in, kh, kw), in the layout's order; float16, bfloat16, float32 or
            float64, and any strides (the kernel takes contiguous ones, the rest goes through torch).
        out: W' of each matrix: the same shapes, dtypes and devices; the same tensors to merge in place.
        layout: of the flat vectors.

    Raises:
        ValueError: if the tensors do not fit the layout or each other.
    """

    def __init__(self, weights: Sequence[Tensor], out: Sequence[Tensor], layout: FlatLayout) -> None:
        check_weights(weights, out, layout)
        self.layout = layout
        self._paths = _paths(weights, out, layout)

    @torch.no_grad()
    def __call__(self, flat: Tensor, scale: Scale = 1.0, statistics: Statistics | None = None) -> Tensor:
        """Writes every W'.

        Args:
            flat: (D,), or (L, D) for several LoRAs at once; float16, bfloat16, float32 or float64.
            scale: alpha / rank included.
            statistics: what un-normalises ``flat``; None where it is not normalised.

        Returns:
            (K,) bool on flat's device: where a number of W' is not finite. Look before W' is used; looking waits.

        Raises:
            ValueError: if a shape, dtype or device does not fit, or a scale is not finite.
        """
        statistics = statistics or Statistics()
        flat = check_flat(flat, self.layout)
        statistics.check(self.layout, flat.device)
        scales = scales_of(scale, flat)
        bad = torch.zeros(len(self.layout.shapes), dtype=torch.int32, device=flat.device)
        for device, paths in self._paths.items():
            there = bad if device == flat.device else bad.to(device)
            moved = Statistics(*(None if v is None else v.to(device) for v in (statistics.mean, statistics.spread)))
            for path in paths:
                path(flat.to(device), scales.to(device), moved, there)
            if there is not bad:
                bad |= there.to(flat.device)
        return bad.bool()


def _paths(weights: Sequence[Tensor], out: Sequence[Tensor], layout: FlatLayout) -> dict[torch.device, list[Path]]:
    """Parts of the matrices that go together, by device."""
    groups: dict[tuple[torch.device, torch.dtype, bool], list[int]] = defaultdict(list)
    for index, (weight, made) in enumerate(zip(weights, out, strict=True)):
        kernel = takes_triton(weight.device) and weight.dtype != torch.float64
        kernel = kernel and weight.is_contiguous() and made.is_contiguous()
        groups[weight.device, weight.dtype, kernel].append(index)
    found: dict[torch.device, list[Path]] = defaultdict(list)
    for (device, _, kernel), indices in groups.items():
        parts = [weights[index].detach() for index in indices], [out[index].detach() for index in indices]
        if kernel:
            from difflora_kernels.lora_merge.launch import KernelMerge

            found[device].append(KernelMerge(*parts, layout, indices))
        else:
            found[device].append(LoopMerge(*parts, layout, indices))
    return dict(found)


def check_weights(weights: Sequence[Tensor], out: Sequence[Tensor], layout: FlatLayout) -> None:
    """Raises ValueError where the tensors do not fit the layout or each other."""
    if not len(weights) == len(out) == len(layout.shapes):
        raise ValueError(f"{len(weights)} weights and {len(out)} outputs for a layout of {len(layout.shapes)} matrices")
    for index, (weight, made, (m, n)) in enumerate(zip(weights, out, layout.shapes, strict=True)):
        if weight.ndim < 2 or (len(weight), weight[0].numel()) != (m, n):
            raise ValueError(f"weight {index} is {tuple(weight.shape)} where the layout has ({m}, {n})")
        if weight.dtype not in DTYPES:
            raise ValueError(f"weight {index} is {weight.dtype}; it must be float16, bfloat16, float32 or float64")
        if (made.shape, made.dtype, made.device) != (weight.shape, weight.dtype, weight.device):
            raise ValueError(
                f"output {index} is {made.dtype} {tuple(made.shape)} on {made.device}; "
                f"its weight is {weight.dtype} {tuple(weight.shape)} on {weight.device}"
            )


def check_flat(flat: Tensor, layout: FlatLayout) -> Tensor:
    """The flat vectors as (L, D); raises ValueError where they do not fit."""
    if flat.ndim not in (1, 2) or flat.shape[-1] != layout.size or not len(flat):
        raise ValueError(f"flat is {tuple(flat.shape)}; it must be ({layout.size},) or (L, {layout.size})")
    if flat.dtype not in DTYPES:
        raise ValueError(f"flat is {flat.dtype}; it must be float16, bfloat16, float32 or float64")
    return flat.reshape(-1, layout.size)


def scales_of(scale: Scale, flat: Tensor) -> Tensor:
    """One scale a LoRA, (L,) float32 on flat's device; raises ValueError where they do not fit."""
    if not isinstance(scale, Tensor):
        values = [scale] * len(flat) if isinstance(scale, int | float) else list(scale)
        if not all(-math.inf < value < math.inf for value in values):  # some BLAS take a factor of NaN for 0
            raise ValueError(f"scale is {scale}; it must be finite")
        # Filled on the device: a copy from the host could not be captured in a graph.
        filled = [torch.full((1,), value, dtype=torch.float32, device=flat.device) for value in values]
        scale = torch.cat(filled) if filled else torch.empty(0)
    if scale.shape != (len(flat),):
        raise ValueError(f"scale is {tuple(scale.shape)} for {len(flat)} LoRAs; give one number, or one each")
    return scale.to(flat.device, torch.float32, non_blocking=True)
