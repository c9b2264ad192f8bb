"""Triton kernels of the WP loss: values and gradient in one pass, the end of the reduction, and a gradient's factor.

The tables are those of ``problem.Problem``: R rows of N elements in G groups. C programs share a row; each walks over
it in blocks and keeps a partial sum a lane, so that no sum depends on the order in which programs run.
"""

# ruff: noqa: N803 - Triton's constants and the table's sizes have capitals.

from __future__ import annotations

import triton
import triton.language as tl


# What may be 1 is not specialised: Triton would make it a constant, which has no dtype.
@triton.jit(do_not_specialize=["C", "rows_per_group", "count"])
def wp_loss_kernel(
    x_hat_ptr,  # (R, N), any float
    x_ptr,  # (R, N), any float
    weights_ptr,  # (N,) or (R, N), any float or bool; None: all are 1
    totals_ptr,  # (G,) float32, what a mean divides by; None: count
    upstream_ptr,  # (G,) float32, factor of the gradient; None: 1
    grad_ptr,  # (R, N), x_hat's dtype; None: values alone
    partials_ptr,  # (2, R, C) float32: sums of the reconstruction loss and of equation 2; None: gradient alone
    N,
    C,
    rows_per_group,
    weights_stride,
    count,
    wp_weight,
    L1: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Partial sums of both losses, the gradient in x_hat, or both; R C programs."""
    program = tl.program_id(0).to(tl.int64)
    row = program // C
    chunk = program % C
    lanes = tl.arange(0, BLOCK).to(tl.int64)
    if grad_ptr is not None:
        factor = _inverse(row // rows_per_group, totals_ptr, count)
        if upstream_ptr is not None:
            factor = factor * tl.load(upstream_ptr + row // rows_per_group)
    reconstruction_sum = tl.zeros((BLOCK,), tl.float32)
    wp_sum = tl.zeros((BLOCK,), tl.float32)
    for start in range(chunk * BLOCK, N, C.to(tl.int64) * BLOCK):
        inside = start + lanes < N
        x_hat = tl.load(x_hat_ptr + row * N + start + lanes, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + row * N + start + lanes, mask=inside, other=0.0).to(tl.float32)
        difference = x_hat - x
        magnitude = tl.abs(x)
        if weights_ptr is not None:
            weights = tl.load(weights_ptr + row * weights_stride + start + lanes, mask=inside, other=0).to(tl.float32)
            # What has no weight may hold anything, NaN too: 0 * NaN would spoil the sum.
            difference = tl.where(weights == 0.0, 0.0, difference)
            magnitude = tl.where(weights == 0.0, 0.0, magnitude)
        sign = tl.where(difference > 0.0, 1.0, tl.where(difference < 0.0, -1.0, 0.0))  # sign(0) = 0
        distance = tl.abs(difference)
        reconstruction = distance if L1 else difference * difference
        wp = magnitude * distance  # equation 2
        slope = (sign if L1 else 2.0 * difference) + wp_weight * magnitude * sign
        if weights_ptr is not None:
            reconstruction *= weights
            wp *= weights
            slope *= weights
        reconstruction_sum += reconstruction
        wp_sum += wp
        if grad_ptr is not None:
            grad = (factor * slope).to(grad_ptr.dtype.element_ty)
            tl.store(grad_ptr + row * N + start + lanes, grad, mask=inside)
    if partials_ptr is not None:
        programs = tl.num_programs(0).to(tl.int64)
        tl.store(partials_ptr + program, tl.sum(reconstruction_sum, axis=0))
        tl.store(partials_ptr + programs + program, tl.sum(wp_sum, axis=0))


@triton.jit(do_not_specialize=["P", "count"])
def finish_kernel(
    partials_ptr,  # (2, G, P) float32
    totals_ptr,  # (G,) float32 or None, as above
    loss_ptr,  # (G,) float32
    reconstruction_ptr,  # (G,) float32
    wp_ptr,  # (G,) float32
    P,
    count,
    wp_weight,
    BLOCK: tl.constexpr,
):
    """The loss and its terms from the partial sums, always added in one order; G programs."""
    group = tl.program_id(0).to(tl.int64)
    groups = tl.num_programs(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    # There are few partial sums: in float64 their order leaves no trace in the float32 result.
    reconstruction_sum = tl.zeros((BLOCK,), tl.float64)
    wp_sum = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, P, BLOCK):
        inside = start + lanes < P
        places = group * P + start + lanes
        reconstruction_sum += tl.load(partials_ptr + places, mask=inside, other=0.0).to(tl.float64)
        wp_sum += tl.load(partials_ptr + groups * P + places, mask=inside, other=0.0).to(tl.float64)
    inverse = _inverse(group, totals_ptr, count)
    reconstruction = tl.sum(reconstruction_sum, axis=0).to(tl.float32) * inverse
    wp = tl.sum(wp_sum, axis=0).to(tl.float32) * inverse
    tl.store(reconstruction_ptr + group, reconstruction)
    tl.store(wp_ptr + group, wp)
    tl.store(loss_ptr + group, reconstruction + wp_weight * wp)


@triton.jit(do_not_specialize=["C"])
def scale_kernel(
    grad_ptr,  # (G, M), changed in place
    factors_ptr,  # (G,) float32
    M,
    C,
    BLOCK: tl.constexpr,
):
    """Multiplies each group's gradient by its factor; G C programs."""
    program = tl.program_id(0).to(tl.int64)
    group = program // C
    lanes = tl.arange(0, BLOCK).to(tl.int64)
    factor = tl.load(factors_ptr + group)
    # The device looks, not the host: a loss that is the whole objective has factor 1 and costs no traffic, no sync.
    if factor != 1.0:
        for start in range((program % C) * BLOCK, M, C.to(tl.int64) * BLOCK):
            inside = start + lanes < M
            grad = tl.load(grad_ptr + group * M + start + lanes, mask=inside, other=0.0).to(tl.float32)
            tl.store(grad_ptr + group * M + start + lanes, (factor * grad).to(grad_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _inverse(group, totals_ptr, count):
    """1 / the group's total weight, or 1 / count; 0 for a group without weight, whose loss and gradient are 0."""
    total = count.to(tl.float32) if totals_ptr is None else tl.load(totals_ptr + group)
    return tl.where(total == 0.0, 0.0, 1.0 / total)
