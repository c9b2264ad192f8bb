"""One form for the many factorisations of a LoRA: (B G, G^-1 A) is the same change of the weights for any G.

A corpus in this form has that ambiguity removed before it is flattened (LoRA Diffusion). With the thin singular value
decomposition B A = U S V^T, S falling, the form is B = U sqrt(S) and A = sqrt(S) V^T, so that B and A weigh the same,
with one rule for the sign of each pair of columns. Where singular values are equal to rounding the form is not unique;
no rule that looks at B A alone could make it so.
"""

# ruff: noqa: N803, N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import torch
from torch import Tensor

from difflora.errors import BadParameter
from difflora.lora.layout import LoraLayout

_NUMBERS_AT_ONCE = 2**24
_NOISE = 16
"""Singular values below this many roundings of the largest are noise; the root of S would make them visible."""


@torch.no_grad()
def canonical(flat: Tensor, layout: LoraLayout) -> Tensor:
    """LoRAs in canonical form; each module's B A stays as it is to the rounding of float32.

    The sign of a pair of columns (b, a) makes the sum of x |x| over both positive. The plain sum would be noise where
    a layer norm takes the mean away, and the entry of largest magnitude changes when two near-equal entries of
    opposite signs swap places; this sum is smooth, odd, and rests on the large entries, so a small change of the LoRA
    turns a sign only where the sum is about zero.

    Args:
        flat: (D,) or (N, D), floating point.
        layout: what the numbers are.

    Returns:
        The same shape, dtype and device; new storage. Without gradients.

    Raises:
        BadParameter: if the shape does not fit or a number is not finite.
    """
    layout.check(flat)
    if flat.ndim > 2:
        raise BadParameter(f"canonical form: a flat LoRA is (D,) or (N, D), not {tuple(flat.shape)}")
    if not torch.isfinite(flat).all():
        raise BadParameter("canonical form: the LoRA has numbers that are not finite; leave it out")
    made = torch.empty_like(flat, memory_format=torch.contiguous_format)
    step = max(1, _NUMBERS_AT_ONCE // layout.size)
    for rows, out in zip(flat.view(-1, layout.size).split(step), made.view(-1, layout.size).split(step), strict=True):
        views, targets = layout.views(rows), layout.views(out)
        for names in layout.by_shape.values():  # K modules of one shape at once
            lora_A = torch.stack([views[name][0].mT for name in names])  # (K, N, n, r), transposed
            lora_B = torch.stack([views[name][1] for name in names])  # (K, N, m, r)
            for name, new_A, new_B in zip(names, *balanced(lora_A, lora_B), strict=True):
                targets[name][0].copy_(new_A.mT)
                targets[name][1].copy_(new_B)
    return made


def balanced(lora_A: Tensor, lora_B: Tensor) -> tuple[Tensor, Tensor]:
    """The canonical factors of B A, many at once, by two thin QR decompositions and an SVD of r x r.

    Args:
        lora_A: (..., n, r), the transpose of A.
        lora_B: (..., m, r).

    Returns:
        The same two in canonical form, float32 or wider; columns beyond the rank of B A are zero.
    """
    rank, dtype = lora_A.shape[-1], torch.promote_types(lora_A.dtype, torch.float32)
    Q_A, R_A = torch.linalg.qr(lora_A.to(dtype))  # (..., n, k), (..., k, r)
    Q_B, R_B = torch.linalg.qr(lora_B.to(dtype))  # (..., m, l), (..., l, r)
    # Factors of unit scale: the product of two small ones would lose its last digits, or all, below float32's range.
    scale_A, scale_B = _scale(R_A), _scale(R_B)
    U, S, Vh = torch.linalg.svd(R_B / scale_B @ (R_A / scale_A).mT, full_matrices=False)  # (..., l, p), (..., p)
    S = S.where(_NOISE * torch.finfo(dtype).eps * S[..., :1] < S, 0)
    root = S.sqrt().unsqueeze(-2) * scale_A.sqrt() * scale_B.sqrt()  # (..., 1, p)
    new_A, new_B = Q_A @ Vh.mT * root, Q_B @ U * root  # (..., n, p), (..., m, p)
    odd = (new_A * new_A.abs()).sum(-2, keepdim=True) + (new_B * new_B.abs()).sum(-2, keepdim=True)  # (..., 1, p)
    sign = torch.where(odd < 0, -1, 1).to(dtype)
    missing = rank - S.shape[-1]  # of a module with fewer features than the rank
    return torch.nn.functional.pad(new_A * sign, (0, missing)), torch.nn.functional.pad(new_B * sign, (0, missing))


def _scale(triangle: Tensor) -> Tensor:
    """The largest magnitude in each matrix, (..., 1, 1); 1 where all is zero."""
    largest = triangle.abs().amax((-2, -1), keepdim=True)
    return largest.where(largest > 0, 1)
