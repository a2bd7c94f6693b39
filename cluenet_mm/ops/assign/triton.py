"""Fused search of the nearest centre for CUDA, in Triton.

One program holds a block of points, walks over the centres of its head in blocks,
and keeps the best score and index of every point in registers. The table of
similarities is never written. Points of at most ``MAX_BLOCK_D`` channels are read
once and stay on the chip; wider ones are read again, slice by slice, for every block
of centres.

It is an operator of its own to ``torch.compile``, which leaves it as it is. The
interpreter of Triton runs the same code on a CPU (``TRITON_INTERPRET=1`` in the
environment before Triton is imported), which is how the tests see it without a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import JITFunction

BLOCK_N = 64
BLOCK_M = 64
# Widest slice of a point that a program holds at once.
MAX_BLOCK_D = 128
# tl.dot takes nothing smaller.
MIN_DOT = 16


@torch.library.custom_op("cluenet_mm::nearest_center", mutates_args=())
def search(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Index and score of the centre with the largest dot product.

    Args:
        points: ``(B, G, N, D)`` fp16, bf16 or fp32 on a CUDA device, any strides.
        centers: ``(B, G, M, D)``, same dtype.

    Returns:
        Index ``(B, G, N)`` int64 and dot product ``(B, G, N)`` in the dtype of the
        points, accumulated in fp32. A point that is not finite gets index 0;
        otherwise a NaN score wins, and the first of equal scores.
    """
    batch, heads, num_points, dims = points.shape
    num_centers = centers.size(2)
    index = torch.empty(
        (batch, heads, num_points), dtype=torch.long, device=points.device
    )
    score = torch.empty_like(index, dtype=points.dtype)
    if index.numel() == 0:
        return index, score
    # The interpreter of Triton 3.6 multiplies the bits of bf16 as integers.
    widen = points.dtype == torch.bfloat16 and not isinstance(
        _search_kernel, JITFunction
    )
    block_d = min(MAX_BLOCK_D, max(MIN_DOT, triton.next_power_of_2(dims)))
    blocks = triton.cdiv(num_points, BLOCK_N)
    _search_kernel[(blocks * batch * heads,)](
        points,
        centers,
        index,
        score,
        heads,
        num_points,
        num_centers,
        dims,
        *points.stride(),
        *centers.stride(),
        BLOCK_N=BLOCK_N,
        BLOCK_M=BLOCK_M,
        BLOCK_D=block_d,
        RESIDENT=dims <= block_d,
        WIDEN=widen,
    )
    return index, score


@search.register_fake
def _(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    shape = points.shape[:-1]
    return points.new_empty(shape, dtype=torch.long), points.new_empty(shape)


@triton.jit
def _search_kernel(
    points_ptr,
    centers_ptr,
    index_ptr,
    score_ptr,
    heads,
    num_points,
    num_centers,
    dims,
    points_stride_b,
    points_stride_g,
    points_stride_n,
    points_stride_d,
    centers_stride_b,
    centers_stride_g,
    centers_stride_m,
    centers_stride_d,
    BLOCK_N: tl.constexpr,  # noqa: N803
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_D: tl.constexpr,  # noqa: N803
    RESIDENT: tl.constexpr,  # noqa: N803
    WIDEN: tl.constexpr,  # noqa: N803
):
    blocks = tl.cdiv(num_points, BLOCK_N)
    item = (tl.program_id(0) // blocks).to(tl.int64)  # image and head
    block = tl.program_id(0) % blocks
    b, g = item // heads, item % heads
    points_ptr += b * points_stride_b + g * points_stride_g
    centers_ptr += b * centers_stride_b + g * centers_stride_g

    rows = block * BLOCK_N + tl.arange(0, BLOCK_N)
    in_rows = rows < num_points
    rows_offset = rows.to(tl.int64)[:, None] * points_stride_n
    depth = tl.arange(0, BLOCK_D)
    best = tl.full((BLOCK_N,), float("-inf"), tl.float32)
    best_index = tl.zeros((BLOCK_N,), tl.int32)
    unsound = tl.zeros((BLOCK_N,), tl.float32)  # x - x: zero where x is finite

    if RESIDENT:
        x = tl.load(
            points_ptr + rows_offset + depth[None, :] * points_stride_d,
            mask=in_rows[:, None] & (depth < dims)[None, :],
            other=0.0,
        )
        if WIDEN:
            x = x.to(tl.float32)
        unsound += tl.sum(x.to(tl.float32) - x.to(tl.float32), axis=1)

    for first in range(0, num_centers, BLOCK_M):
        columns = first + tl.arange(0, BLOCK_M)
        in_columns = columns < num_centers
        table = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
        for start in range(0, dims, BLOCK_D):
            d = start + depth
            if not RESIDENT:
                x = tl.load(
                    points_ptr + rows_offset + d[None, :] * points_stride_d,
                    mask=in_rows[:, None] & (d < dims)[None, :],
                    other=0.0,
                )
                if WIDEN:
                    x = x.to(tl.float32)
                if first == 0:
                    unsound += tl.sum(x.to(tl.float32) - x.to(tl.float32), axis=1)
            c = tl.load(
                centers_ptr
                + columns[None, :] * centers_stride_m
                + d[:, None] * centers_stride_d,
                mask=in_columns[None, :] & (d < dims)[:, None],
                other=0.0,
            )
            if WIDEN:
                c = c.to(tl.float32)
            # "ieee": the tensor cores' tf32 would move fp32 points between centres.
            table = tl.dot(x, c, table, input_precision="ieee")
        # NaN is the largest, as in torch.max; it cannot be told from +inf afterwards.
        table = tl.where(table != table, float("inf"), table)
        table = tl.where(in_columns[None, :], table, float("-inf"))
        score, column = tl.max(
            table, axis=1, return_indices=True, return_indices_tie_break_left=True
        )
        better = score > best
        best = tl.where(better, score, best)
        best_index = tl.where(better, column + first, best_index)

    best_index = tl.where(unsound == 0.0, best_index, 0)
    best = tl.where(best == float("inf"), float("nan"), best)
    best = tl.where(unsound == 0.0, best, float("nan"))
    out = item * num_points + rows
    tl.store(index_ptr + out, best_index.to(tl.int64), mask=in_rows)
    tl.store(score_ptr + out, best.to(score_ptr.dtype.element_ty), mask=in_rows)
