"""Triton kernel of the LoRA merge: W' = W + sum_l s_l B_l A_l for all matrices of a model, in one launch.

A program makes one tile of one matrix; two small tables say which and where. It walks down the tile's rows with its
part of A in registers and the next rows of W on their way. W is read once and W' written once; the flat vector is small
and comes from the L2 cache but the first time.
"""

# ruff: noqa: N803, N806 - Triton's constants and the tables' sizes have capitals.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["loras"])
def lora_merge_kernel(
    tiles_ptr,  # (tiles, 3) int32: row of the matrices' table, first row, first column
    matrices_ptr,  # (matrices, 7) int64: addresses of W and W', m, n, starts of B and the transpose of A, place in K
    flat_ptr,  # (L, D), any float
    scales_ptr,  # (L,) float32
    mean_ptr,  # (D,) or (2 K,) float32; None: 0
    spread_ptr,  # (D,) or (2 K,) float32; None: 1
    bad_ptr,  # (K,) int32: becomes 1 where a number of W' is not finite
    loras,  # L
    D,
    DTYPE: tl.constexpr,  # of W and W'
    RANK: tl.constexpr,
    MEAN_EACH: tl.constexpr,  # whether the mean is one for each element, or one for each B and A
    SPREAD_EACH: tl.constexpr,
    ALIGNED: tl.constexpr,  # whether all starts, rows and addresses are multiples of 16
    HELD: tl.constexpr,  # whether A stays in registers: one LoRA, and its rank is no larger than BLOCK_R
    DOT: tl.constexpr,  # whether by tl.dot, or by one outer product a rank
    PRECISION: tl.constexpr,  # of tl.dot
    ROWS: tl.constexpr,  # of a tile
    BLOCK_M: tl.constexpr,  # rows that are made at a time
    BLOCK_N: tl.constexpr,  # columns of a tile
    BLOCK_R: tl.constexpr,  # ranks that are taken at a time
    STAGES: tl.constexpr,  # loads of W that are on their way at a time
):
    """One tile of ROWS rows and BLOCK_N columns of one matrix; as many programs as tiles."""
    tile_ptr = tiles_ptr + tl.program_id(0).to(tl.int64) * 3
    matrix_ptr = matrices_ptr + tl.load(tile_ptr) * 7
    first_row = tl.load(tile_ptr + 1)
    first_column = tl.load(tile_ptr + 2)
    w_ptr = tl.load(matrix_ptr).to(tl.pointer_type(DTYPE))
    out_ptr = tl.load(matrix_ptr + 1).to(tl.pointer_type(DTYPE))
    m = tl.load(matrix_ptr + 2)
    n = tl.load(matrix_ptr + 3)
    start_B = tl.load(matrix_ptr + 4)
    start_A = tl.load(matrix_ptr + 5)
    place = tl.load(matrix_ptr + 6)
    if ALIGNED:  # what is read from a table has no alignment that Triton knows: it would load number by number
        w_ptr = tl.multiple_of(w_ptr, 16)
        out_ptr = tl.multiple_of(out_ptr, 16)
        n = tl.multiple_of(n, 16)
        start_B = tl.multiple_of(start_B, 16)
        start_A = tl.multiple_of(start_A, 16)
    columns = tl.multiple_of(first_column, BLOCK_N) + tl.arange(0, BLOCK_N)
    if HELD:
        A = _factor(
            flat_ptr, mean_ptr, spread_ptr, start_A, columns, n, 2 * place + 1, 0, RANK, BLOCK_R, MEAN_EACH, SPREAD_EACH
        )  # (BLOCK_N, BLOCK_R)
        scale = tl.load(scales_ptr)
    bad = tl.zeros((BLOCK_M, BLOCK_N), tl.int1)
    for row in tl.range(first_row, tl.minimum(first_row + ROWS, m).to(tl.int32), BLOCK_M, num_stages=STAGES):
        rows = tl.multiple_of(row, BLOCK_M) + tl.arange(0, BLOCK_M)
        inside = (rows < m)[:, None] & (columns < n)[None, :]
        offsets = rows.to(tl.int64)[:, None] * n + columns[None, :]  # (BLOCK_M, BLOCK_N)
        w = tl.load(w_ptr + offsets, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        if HELD:
            B = _factor(
                flat_ptr, mean_ptr, spread_ptr, start_B, rows, m, 2 * place, 0, RANK, BLOCK_R, MEAN_EACH, SPREAD_EACH
            )  # (BLOCK_M, BLOCK_R)
            made = _add_product(w, B, A, scale, RANK, BLOCK_R, DOT, PRECISION)
        else:
            made = w
            from_ptr = flat_ptr
            for lora in range(loras):
                scale = tl.load(scales_ptr + lora)
                for rank in range(0, RANK, BLOCK_R):
                    B = _factor(
                        from_ptr,
                        mean_ptr,
                        spread_ptr,
                        start_B,
                        rows,
                        m,
                        2 * place,
                        rank,
                        RANK,
                        BLOCK_R,
                        MEAN_EACH,
                        SPREAD_EACH,
                    )
                    A = _factor(
                        from_ptr,
                        mean_ptr,
                        spread_ptr,
                        start_A,
                        columns,
                        n,
                        2 * place + 1,
                        rank,
                        RANK,
                        BLOCK_R,
                        MEAN_EACH,
                        SPREAD_EACH,
                    )
                    made = _add_product(made, B, A, scale, RANK, BLOCK_R, DOT, PRECISION)
                from_ptr += D  # lora * D would not fit 32 bits
        out = made.to(DTYPE)  # the only rounding to W's dtype
        tl.store(out_ptr + offsets, out, mask=inside, eviction_policy="evict_first")
        bad = bad | (((tl.abs(out.to(tl.float32)) < float("inf")) == 0) & inside)
    if tl.max(tl.max(bad.to(tl.int32), axis=1), axis=0) != 0:
        tl.store(bad_ptr + place, 1)  # whoever else stores here stores the same


@triton.jit
def _add_product(
    w,  # (BLOCK_M, BLOCK_N) float32
    B,  # (BLOCK_M, BLOCK_R)
    A,  # (BLOCK_N, BLOCK_R)
    scale,
    RANK: tl.constexpr,
    BLOCK_R: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """``w + scale * B A^T`` in float32."""
    if DOT:
        w += scale * tl.dot(B, tl.trans(A), input_precision=PRECISION)
    else:
        ranks = tl.arange(0, BLOCK_R)[None, :]
        for k in tl.static_range(RANK):
            b = tl.sum(tl.where(ranks == k, scale * B.to(tl.float32), 0.0), axis=1)  # (BLOCK_M,), column k
            a = tl.sum(tl.where(ranks == k, A.to(tl.float32), 0.0), axis=1)  # (BLOCK_N,)
            w += b[:, None] * a[None, :]
    return w


@triton.jit
def _factor(
    flat_ptr,  # (D,), any float
    mean_ptr,
    spread_ptr,
    start,
    rows,  # (BLOCK,)
    count,
    part,
    rank,
    RANK: tl.constexpr,
    BLOCK_R: tl.constexpr,
    MEAN_EACH: tl.constexpr,
    SPREAD_EACH: tl.constexpr,
):
    """Rows of B or of the transpose of A, (BLOCK, BLOCK_R): as stored, or un-normalised in float32; 0 outside."""
    ranks = rank + tl.arange(0, BLOCK_R)[None, :]
    inside = (rows < count)[:, None] & (ranks < RANK)
    places = start + rows.to(tl.int64)[:, None] * RANK + ranks
    value = tl.load(flat_ptr + places, mask=inside, other=0.0)
    if spread_ptr is not None:
        if SPREAD_EACH:
            value = value.to(tl.float32) * tl.load(spread_ptr + places, mask=inside, other=0.0)
        else:
            value = value.to(tl.float32) * tl.load(spread_ptr + part)
    if mean_ptr is not None:
        if MEAN_EACH:
            value = value.to(tl.float32) + tl.load(mean_ptr + places, mask=inside, other=0.0)
        else:
            value = tl.where(inside, value.to(tl.float32) + tl.load(mean_ptr + part), 0.0)
    return value
