"""Triton kernels of the linear layer with many LoRAs: two thin products in one pass, and the gradients of A and B.

A program takes a tile of one sample's rows and that sample's LoRA; samples lie in any order. The forward pass and the
gradient in x are the same kernel with the two factors in each other's place.
"""

# ruff: noqa: N803 - Triton's constants and the tensors' sizes have capitals.

from __future__ import annotations

import triton
import triton.language as tl


# What may be 1 is not specialised: Triton would make it a constant, which has no dtype.
@triton.jit(do_not_specialize=["T", "K"])
def lora_product_kernel(
    input_ptr,  # (N, T, C), any float
    down_ptr,  # (K, RANK, C) by its strides, any float
    up_ptr,  # (K, M, RANK) by its strides, any float
    base_ptr,  # (N, T, M), any float; None: 0
    index_ptr,  # (N,) int64: which LoRA is a sample's
    scales_ptr,  # (K,) float32
    low_ptr,  # (N, T, RANK) float32: input down^T
    out_ptr,  # (N, T, M), any float: base + scale * low up^T
    T,
    C,
    M,
    K,
    down_stride_k,
    down_stride_r,
    down_stride_c,
    up_stride_k,
    up_stride_m,
    up_stride_r,
    RANK: tl.constexpr,
    PRECISION: tl.constexpr,  # of the product with the input: "tf32" is exact where both factors are half precision
    LOW_PRECISION: tl.constexpr,  # of the product with low
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Both products for BLOCK_T rows; (N * tiles of T) x (parts of M) programs."""
    tiles = tl.cdiv(T, BLOCK_T)
    program = tl.program_id(0).to(tl.int64)
    sample = program // tiles
    rows = (program % tiles) * BLOCK_T + tl.arange(0, BLOCK_T)  # (BLOCK_T,) int64
    places = sample * T + rows
    inside = (rows < T)[:, None]
    ranks = tl.arange(0, BLOCK_R).to(tl.int64)
    lora = tl.load(index_ptr + sample)
    known = (lora >= 0) & (lora < K)
    lora = tl.where(known, lora, 0)
    # The host cannot look at an index without waiting: a LoRA that is not there shows as NaN, and reads nothing.
    scale = tl.where(known, tl.load(scales_ptr + lora), float("nan"))
    low = tl.zeros((BLOCK_T, BLOCK_R), tl.float32)
    for start in range(0, C, BLOCK_C):
        columns = start + tl.arange(0, BLOCK_C).to(tl.int64)
        value = tl.load(
            input_ptr + places[:, None] * C + columns[None, :], mask=inside & (columns < C)[None, :], other=0.0
        )
        down = tl.load(
            down_ptr + lora * down_stride_k + columns[:, None] * down_stride_c + ranks[None, :] * down_stride_r,
            mask=(columns < C)[:, None] & (ranks < RANK)[None, :],
            other=0.0,
        )  # (BLOCK_C, BLOCK_R)
        low += tl.dot(value.to(tl.float32), down.to(tl.float32), input_precision=PRECISION)
    if tl.program_id(1) == 0:
        tl.store(low_ptr + places[:, None] * RANK + ranks[None, :], low, mask=inside & (ranks < RANK)[None, :])
    for start in range(tl.program_id(1) * BLOCK_M, M, tl.num_programs(1) * BLOCK_M):
        columns = start + tl.arange(0, BLOCK_M).to(tl.int64)
        up = tl.load(
            up_ptr + lora * up_stride_k + columns[None, :] * up_stride_m + ranks[:, None] * up_stride_r,
            mask=(columns < M)[None, :] & (ranks < RANK)[:, None],
            other=0.0,
        )  # (BLOCK_R, BLOCK_M)
        out = scale * tl.dot(low, up.to(tl.float32), input_precision=LOW_PRECISION)
        offsets = places[:, None] * M + columns[None, :]
        mask = inside & (columns < M)[None, :]
        if base_ptr is not None:
            out += tl.load(base_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        tl.store(out_ptr + offsets, out.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["T", "P"])
def lora_grad_kernel(
    wide_ptr,  # (N, T, C), any float
    low_ptr,  # (N, T, RANK) float32
    order_ptr,  # (N,) int64: samples, by LoRA
    starts_ptr,  # (K + 1,) int64: where each LoRA's samples begin in it
    partials_ptr,  # (P, K, C, RANK) float32: sums of wide^T low over a part of a LoRA's rows
    T,
    C,
    P,
    RANK: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """The gradient of one factor, over one part of the rows; (K P) x (tiles of C) programs, and no atomics."""
    program = tl.program_id(0).to(tl.int64)
    loras = tl.num_programs(0) // P
    lora = program // P
    part = program % P
    first = tl.load(starts_ptr + lora)
    tiles = tl.cdiv(T, BLOCK_T)
    pieces = (tl.load(starts_ptr + lora + 1) - first) * tiles
    columns = tl.program_id(1).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    ranks = tl.arange(0, BLOCK_R)
    total = tl.zeros((BLOCK_C, BLOCK_R), tl.float32)
    for piece in range(part, pieces, P):
        sample = tl.load(order_ptr + first + piece // tiles)
        rows = (piece % tiles) * BLOCK_T + tl.arange(0, BLOCK_T)
        places = sample * T + rows
        wide = tl.load(
            wide_ptr + places[None, :] * C + columns[:, None],
            mask=(rows < T)[None, :] & (columns < C)[:, None],
            other=0.0,
        )  # (BLOCK_C, BLOCK_T)
        low = tl.load(
            low_ptr + places[:, None] * RANK + ranks[None, :],
            mask=(rows < T)[:, None] & (ranks < RANK)[None, :],
            other=0.0,
        )  # (BLOCK_T, BLOCK_R)
        total += tl.dot(wide.to(tl.float32), low, input_precision=PRECISION)
    place = part * loras + lora
    tl.store(
        partials_ptr + (place * C + columns[:, None]) * RANK + ranks[None, :],
        total,
        mask=(columns < C)[:, None] & (ranks < RANK)[None, :],
    )
