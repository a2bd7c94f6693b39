"""Fused search of the nearest center for CUDA, in Triton.

One program holds a block of points and walks over the centers of its head, tile by
tile. Every cell of the tile keeps its best score and the number of the tile that had
it; the cells of a row meet once, at the end, so the walk compares and never reduces.
The table of similarities is never written. Where points are too few to fill the GPU,
the centers of a head are split over several programs and a second kernel takes the
best of their answers.

It is an operator of its own to ``torch.compile``, which leaves it as it is. The
interpreter of Triton runs the same code on a CPU (``TRITON_INTERPRET=1`` in the
environment before Triton is imported), which is how the tests see it without a GPU.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F
from triton import JITFunction

PRECISIONS = ("ieee", "tf32x3")
# Loads of 16 bytes need strides and widths that are multiples of this, as does tl.dot.
ALIGNMENT = 16
# tl.dot takes nothing smaller.
MIN_DOT = 16
# A program with fewer tiles than this spends its time on the reduction at the end.
MIN_TILES = 4
# Rows of the kernel that joins the parts of a split.
JOIN_BLOCK = 128


class Tiling(NamedTuple):
    """Points and centers of a tile, channels held at once, warps, stages of loading."""

    points: int
    centers: int
    channels: int
    warps: int
    stages: int


def tiling(dims: int, dtype: torch.dtype, precision: str = "ieee") -> Tiling:
    """The tiles for points of ``dims`` channels, a multiple of 16.

    A table that was made from machine code, where fewer instructions without spilled
    registers are better, and not by timing: a start needs no trials, and two runs take
    the same path. ``tools/dev/gpu_check.py`` times its neighbors on a GPU.
    """
    width = triton.next_power_of_2(dims)
    if dtype == torch.float32:
        # Products of fp32 live in registers, and 32 channels fill them.
        return Tiling(64, 64, min(width, 32), 8 if precision == "ieee" else 4, 3)
    if width <= 128:
        return Tiling(64, 64, width, 4, 3)
    if width == 256:
        return Tiling(64, 64, 256, 8, 2)
    return Tiling(64, 64, 64, 4, 3)


@torch.library.custom_op("cluenet_mm::nearest_center", mutates_args=())
def search(
    points: Tensor, centers: Tensor, precision: str = "ieee", splits: int = 0
) -> tuple[Tensor, Tensor]:
    """Index and score of the center with the largest dot product.

    Args:
        points: ``(B, G, N, D)`` fp16, bf16 or fp32 on a CUDA device, any strides.
        centers: ``(B, G, M, D)``, same dtype, of unit length.
        precision: How fp32 is multiplied. ``"ieee"`` promises fp32 products and sums:
            scores differ from the definition's by the order of the additions alone.
            ``"tf32x3"`` runs on the tensor cores, each product as three of tf32, and
            promises scores within a few units of fp32's last place; of two centers
            that are closer to each other than this, either may win. fp16 and bf16
            products are exact, and summed in fp32, with both.
        splits: Programs that share the centers of a block of points; 0 lets the size
            decide.

    Returns:
        Index ``(B, G, N)`` int64 and dot product ``(B, G, N)`` in the dtype of the
        points, accumulated in fp32. The first of equal scores wins. A point that is
        not finite gets index 0, any other whose score is NaN the first center that is
        not finite; the score of both is NaN.

    Raises:
        ValueError: If ``precision`` is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"cannot search with precision {precision!r}: it is none of {PRECISIONS}"
        )
    batch, heads, num_points, _ = points.shape
    num_centers = centers.size(2)
    index = points.new_empty((batch, heads, num_points), dtype=torch.long)
    score = points.new_empty(index.shape)
    if index.numel() == 0:
        return index, score
    points, centers = aligned(points), aligned(centers)
    tile = tiling(points.size(-1), points.dtype, precision)
    blocks = triton.cdiv(num_points, tile.points) * batch * heads
    tiles = triton.cdiv(num_centers, tile.centers)
    splits, tiles = split_evenly(tiles, blocks, splits, points.device)
    parts = index.new_empty((splits, *index.shape)) if splits > 1 else index
    _search_kernel[(blocks * splits,)](
        points,
        centers,
        index,
        score,
        parts,
        heads,
        num_points,
        num_centers,
        tiles,
        index.numel(),
        *points.stride()[:3],
        *centers.stride()[:3],
        DIMS=points.size(-1),
        BLOCK_N=tile.points,
        BLOCK_M=tile.centers,
        BLOCK_D=tile.channels,
        SPLIT=splits > 1,
        PRECISION=precision,
        WIDEN=widens(_search_kernel, points.dtype),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    if splits > 1:
        _join_kernel[(triton.cdiv(index.numel(), JOIN_BLOCK),)](
            parts, index, score, index.numel(), splits, BLOCK=JOIN_BLOCK
        )
    return index, score


@search.register_fake
def _(
    points: Tensor, centers: Tensor, precision: str = "ieee", splits: int = 0
) -> tuple[Tensor, Tensor]:
    shape = points.shape[:-1]
    return points.new_empty(shape, dtype=torch.long), points.new_empty(shape)


@search.register_vmap
def _(
    info: Any, in_dims: tuple[int | None, ...], *args: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    tensors = fold_vmapped(info.batch_size, in_dims, args[:2])
    parts = (x.unflatten(0, (info.batch_size, -1)) for x in search(*tensors, *args[2:]))
    return tuple(parts), (0, 0)


def fold_vmapped(
    size: int, in_dims: tuple[int | None, ...], tensors: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """Tensors ``(B, ...)`` with the dimension of ``torch.vmap`` folded into ``B``."""
    return [
        x
        if x is None
        else (x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(
            0, 1
        )
        for x, dim in zip(tensors, in_dims, strict=False)
    ]


def aligned(x: Tensor) -> Tensor:
    """``x`` as whole 16-byte loads can read it: itself, or a copy that zeros pad."""
    odd = any(stride % ALIGNMENT for stride in (x.size(-1), *x.stride()[:-1]))
    if x.stride(-1) != 1 or odd or x.data_ptr() % 16:
        return F.pad(x, (0, -x.size(-1) % ALIGNMENT)).contiguous()
    return x


def widens(kernel: object, dtype: torch.dtype) -> bool:
    """Whether to multiply in fp32: the interpreter takes bits of bf16 for integers."""
    return dtype == torch.bfloat16 and not isinstance(kernel, JITFunction)


def split_evenly(
    tiles: int, programs: int, splits: int, device: torch.device
) -> tuple[int, int]:
    """Split the tiles of so many programs further, none of them empty.

    Args:
        tiles: Tiles that a program walks over.
        programs: Programs without a split.
        splits: Parts of a program; 0 takes what gives every multiprocessor one.
        device: Where they run.

    Returns:
        Number of parts, and tiles of a part.
    """
    if splits == 0 and device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        splits = properties.multi_processor_count // programs
        splits = min(splits, tiles // MIN_TILES)
    tiles_of_part = triton.cdiv(tiles, max(splits, 1))
    return triton.cdiv(tiles, tiles_of_part), tiles_of_part


@triton.jit
def _pack(score, index):
    """One number whose order is that of the scores, NaN first, then lowest index."""
    score = tl.where(score == score, score + 0.0, float("nan"))  # one NaN, one zero
    bits = score.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - index).to(tl.int64)


@triton.jit
def _unpack(packed):
    ordered = (packed >> 32).to(tl.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    index = 0x7FFFFFFF - (packed & 0x7FFFFFFF).to(tl.int32)
    return bits.to(tl.float32, bitcast=True), index


@triton.jit
def load(ptr, rows, depth, in_rows, DIMS: tl.constexpr, MASK: tl.constexpr):
    """Channels ``depth`` of the rows at ``rows``, zero where there are none.

    ``MASK`` tells what may lie outside: "rows", "channels" or "nothing".
    """
    if MASK == "rows":
        x = tl.load(ptr + rows + depth, mask=in_rows & (depth < DIMS), other=0.0)
    elif MASK == "channels":
        x = tl.load(ptr + rows + depth, mask=depth < DIMS, other=0.0)
    else:
        x = tl.load(ptr + rows + depth)
    return x


@triton.jit
def _scores(
    x, points_ptr, rows, in_rows, centers_ptr, columns, in_columns,
    DIMS: tl.constexpr, BLOCK_D: tl.constexpr, MASK: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Products of a block of points, ``x`` where it is resident, and a tile of centers.

    "ieee" keeps fp32 from tf32, which would move points between centers.
    """
    depth = tl.arange(0, BLOCK_D)
    if DIMS <= BLOCK_D:
        c = load(centers_ptr, columns, depth[:, None], in_columns, DIMS, MASK)
        if WIDEN:
            c = c.to(tl.float32)
        table = tl.dot(x, c, input_precision=PRECISION)
    else:
        table = tl.zeros((rows.shape[0], columns.shape[1]), tl.float32)
        for start in range(0, DIMS, BLOCK_D):
            d = start + depth
            x = load(points_ptr, rows, d[None, :], in_rows, DIMS, "rows")
            c = load(centers_ptr, columns, d[:, None], in_columns, DIMS, MASK)
            if WIDEN:
                x, c = x.to(tl.float32), c.to(tl.float32)
            table = tl.dot(x, c, table, input_precision=PRECISION)
    return table


@triton.jit
def _unsound(ptr, rows, in_rows, DIMS: tl.constexpr, BLOCK_D: tl.constexpr):
    """Which rows are not finite."""
    spread = tl.zeros((rows.shape[0],), tl.float32)  # x - x: zero where x is finite
    for start in range(0, DIMS, BLOCK_D):
        depth = start + tl.arange(0, BLOCK_D)
        y = load(ptr, rows, depth[None, :], in_rows, DIMS, "rows").to(tl.float32)
        spread += tl.sum(y - y, axis=1)
    return spread != 0.0


@triton.jit
def _search_kernel(
    points_ptr, centers_ptr, index_ptr, score_ptr, parts_ptr,
    heads, num_points, num_centers, tiles, count,
    points_stride_b, points_stride_g, points_stride_n,
    centers_stride_b, centers_stride_g, centers_stride_m,
    DIMS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr, SPLIT: tl.constexpr, PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Best of at most ``tiles`` tiles of centers for one block of points."""
    blocks = tl.cdiv(num_points, BLOCK_N)
    all_tiles = tl.cdiv(num_centers, BLOCK_M)
    splits = tl.cdiv(all_tiles, tiles)
    block = tl.program_id(0) % blocks
    split = tl.program_id(0) // blocks % splits
    item = (tl.program_id(0) // (blocks * splits)).to(tl.int64)  # image and head
    b, g = item // heads, item % heads
    first = split * tiles
    end = tl.minimum(first + tiles, all_tiles)
    full = tl.minimum(end, num_centers // BLOCK_M)

    in_rows = block * BLOCK_N + tl.arange(0, BLOCK_N) < num_points
    rows = tl.arange(0, BLOCK_N) * points_stride_n
    cells = tl.arange(0, BLOCK_M)
    columns = cells * centers_stride_m
    step = BLOCK_M * centers_stride_m
    points_ptr += b * points_stride_b + g * points_stride_g
    points_ptr += (block * BLOCK_N).to(tl.int64) * points_stride_n
    centers_ptr += b * centers_stride_b + g * centers_stride_g
    centers_ptr += first.to(tl.int64) * step

    depth = tl.arange(0, BLOCK_D)
    x = load(points_ptr, rows[:, None], depth[None, :], in_rows[:, None], DIMS, "rows")
    if WIDEN:
        x = x.to(tl.float32)
    best = tl.full((BLOCK_N, BLOCK_M), float("-inf"), tl.float32)
    best_tile = tl.full((BLOCK_N, BLOCK_M), 0, tl.int32) + first
    here_ptr = centers_ptr
    for tile in range(first, full):
        table = _scores(
            x, points_ptr, rows[:, None], in_rows[:, None],
            here_ptr, columns[None, :], True,
            DIMS, BLOCK_D, "nothing" if DIMS % BLOCK_D == 0 else "channels",
            PRECISION, WIDEN,
        )  # fmt: skip
        best_tile = tl.where(table > best, tile, best_tile)
        # A cell that has seen NaN keeps it.
        best = tl.maximum(best, table, propagate_nan=tl.PropagateNan.ALL)
        here_ptr += step
    if full < end:
        in_columns = full * BLOCK_M + cells < num_centers
        table = _scores(
            x, points_ptr, rows[:, None], in_rows[:, None],
            here_ptr, columns[None, :], in_columns[None, :],
            DIMS, BLOCK_D, "rows", PRECISION, WIDEN,
        )  # fmt: skip
        table = tl.where(in_columns[None, :], table, float("-inf"))
        best_tile = tl.where(table > best, full, best_tile)
        best = tl.maximum(best, table, propagate_nan=tl.PropagateNan.ALL)
    packed = _pack(best, best_tile * BLOCK_M + cells[None, :])
    score, index = _unpack(tl.max(packed, axis=1))

    if tl.max((score - score != 0.0).to(tl.int32), axis=0) > 0:
        # Rare: something is not finite. Only now is it worth asking what.
        culprit = tl.full((BLOCK_M,), 0x7FFFFFFF, tl.int32)
        for tile in range(first, end):
            position = tile * BLOCK_M + cells
            in_columns = position < num_centers
            bad = _unsound(
                centers_ptr, columns[:, None], in_columns[:, None], DIMS, BLOCK_D
            )
            culprit = tl.minimum(culprit, tl.where(bad, position, 0x7FFFFFFF))
            centers_ptr += step
        culprit = tl.min(culprit, axis=0)
        index = tl.where((score != score) & (culprit < num_centers), culprit, index)
        bad = _unsound(points_ptr, rows[:, None], in_rows[:, None], DIMS, BLOCK_D)
        index = tl.where(bad, 0, index)
        score = tl.where(bad, float("nan"), score)

    out = item * num_points + block * BLOCK_N + tl.arange(0, BLOCK_N)
    if SPLIT:
        parts_ptr += split.to(tl.int64) * count
        tl.store(parts_ptr + out, _pack(score, index), mask=in_rows)
    else:
        tl.store(index_ptr + out, index.to(tl.int64), mask=in_rows)
        tl.store(score_ptr + out, score.to(score_ptr.dtype.element_ty), mask=in_rows)


@triton.jit
def _join_kernel(parts_ptr, index_ptr, score_ptr, count, splits, BLOCK: tl.constexpr):
    """Best of the answers of all splits."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    best = tl.load(parts_ptr + at, mask=at < count, other=0)
    for _ in range(1, splits):
        parts_ptr += count
        best = tl.maximum(best, tl.load(parts_ptr + at, mask=at < count, other=0))
    score, index = _unpack(best)
    tl.store(index_ptr + at, index, mask=at < count)
    tl.store(score_ptr + at, score.to(score_ptr.dtype.element_ty), mask=at < count)
