"""The sums of a step of soft clustering for CUDA, in Triton.

One program walks over the points of its head, tile by tile, with all centers beside
them. So the softmax over the centers is whole in every tile, the sums over the points
stay in registers, and the table of shares is never written. Where heads and images are
too few to fill the GPU, the points are split over several programs, and their sums are
added in a fixed order.

It is an operator to ``torch.compile``, which leaves it as it is. How Triton's
interpreter runs it on a CPU: see :mod:`cluenet_mm.ops.assign.triton`.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .assign.triton import MIN_DOT, aligned, fold_vmapped, load, split_evenly, widens

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
MAX_CENTERS = 256
MAX_CHANNELS = 128


def supports(queries: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Whether dtypes and sizes are those that the kernels were made for."""
    same = queries.dtype == keys.dtype == values.dtype
    width = max(keys.size(-1), values.size(-1))
    fits = queries.size(2) <= MAX_CENTERS and width <= MAX_CHANNELS
    return same and fits and queries.dtype in DTYPES


@torch.library.custom_op("cluenet_mm::em_sums", mutates_args=())
def em_sums(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    point_mask: Tensor | None,
    scale: float,
    splits: int = 0,
) -> tuple[Tensor, Tensor]:
    """Sums over the points of shares times values, and of the shares.

    Args:
        queries: ``(B, G, L, D)`` fp16, bf16 or fp32 on a CUDA device.
        keys: ``(B, G, N, D)``, same dtype.
        values: ``(B, G, N, E)``, same dtype.
        point_mask: ``(B, 1 or G, N)`` of zeros and ones, or ``None``.
        scale: Factor of the dot products.
        splits: Programs that share the points of a head; 0 lets the size decide.

    The sizes are those that :func:`supports` accepts.

    Returns:
        Total ``(B, G, L, E)`` and mass ``(B, G, L, 1)``, both fp32. fp16 and bf16 are
        multiplied exactly and summed in fp32; shares keep at least 16 bits.
    """
    shape = (*queries.shape[:3], values.size(-1))
    if 0 in (*shape, keys.size(2)):
        total = queries.new_zeros(shape, dtype=torch.float32)
        return total, total.new_zeros(*shape[:3], 1)
    batch, heads, num_centers, width = shape
    num_points = keys.size(2)
    queries, keys, values = aligned(queries), aligned(keys), aligned(values)
    if point_mask is not None:
        point_mask = point_mask.to(torch.float32).expand(batch, heads, num_points)
    block_l = max(triton.next_power_of_2(num_centers), MIN_DOT)
    warps = 4 if block_l <= 64 else 8
    # Points of a tile: 16 cells of the table of shares for every thread.
    block_n = min(max(16 * 32 * warps // block_l, MIN_DOT), 64)
    tiles = triton.cdiv(num_points, block_n)
    splits, tiles = split_evenly(tiles, batch * heads, splits, queries.device)
    total = queries.new_empty((splits, *shape), dtype=torch.float32)
    mass = total.new_empty((splits, *shape[:3], 1))
    _sums_kernel[(batch * heads * splits,)](
        queries,
        keys,
        values,
        queries if point_mask is None else point_mask,
        total,
        mass,
        scale,
        heads,
        num_centers,
        num_points,
        width,
        splits,
        tiles,
        *queries.stride()[:3],
        *keys.stride()[:3],
        *values.stride()[:3],
        *((0, 0, 0) if point_mask is None else point_mask.stride()),
        DIMS=keys.size(-1),
        WIDTH=values.size(-1),
        BLOCK_N=block_n,
        BLOCK_L=block_l,
        BLOCK_D=triton.next_power_of_2(keys.size(-1)),
        BLOCK_E=triton.next_power_of_2(values.size(-1)),
        HAS_MASK=point_mask is not None,
        WIDEN=widens(_sums_kernel, queries.dtype),
        num_warps=warps,
        num_stages=2,
    )
    return total.sum(0), mass.sum(0)


@em_sums.register_fake
def _(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    point_mask: Tensor | None,
    scale: float,
    splits: int = 0,
) -> tuple[Tensor, Tensor]:
    shape = queries.shape[:3]
    total = queries.new_empty((*shape, values.size(-1)), dtype=torch.float32)
    return total, total.new_empty((*shape, 1))


@em_sums.register_vmap
def _(
    info: Any, in_dims: tuple[int | None, ...], *args: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    tensors = fold_vmapped(info.batch_size, in_dims, args[:4])
    total, mass = em_sums(*tensors, *args[4:])
    parts = (x.unflatten(0, (info.batch_size, -1)) for x in (total, mass))
    return tuple(parts), (0, 0)


@triton.jit
def _shares(q, k, in_centers, scale):
    """Softmax over the centers of ``scale`` times the products."""
    scale *= 1.4426950408889634  # to the base of e, by powers of 2
    logits = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    logits = tl.where(in_centers[:, None], logits, float("-inf"))
    powers = tl.exp2(logits - tl.max(logits, axis=0)[None, :])
    return powers / tl.sum(powers, axis=0)[None, :]


@triton.jit
def _sums_kernel(
    queries_ptr, keys_ptr, values_ptr, mask_ptr, total_ptr, mass_ptr,
    scale, heads, num_centers, num_points, width, splits, tiles,
    queries_stride_b, queries_stride_g, queries_stride_l,
    keys_stride_b, keys_stride_g, keys_stride_n,
    values_stride_b, values_stride_g, values_stride_n,
    mask_stride_b, mask_stride_g, mask_stride_n,
    DIMS: tl.constexpr, WIDTH: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
    HAS_MASK: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Sums over ``tiles`` tiles of points of one head."""
    item = (tl.program_id(0) // splits).to(tl.int64)  # image and head
    split = tl.program_id(0) % splits
    b, g = item // heads, item % heads
    queries_ptr += b * queries_stride_b + g * queries_stride_g
    keys_ptr += b * keys_stride_b + g * keys_stride_g
    values_ptr += b * values_stride_b + g * values_stride_g
    mask_ptr += b * mask_stride_b + g * mask_stride_g

    centers = tl.arange(0, BLOCK_L)
    in_centers = centers < num_centers
    depth = tl.arange(0, BLOCK_D)
    channels = tl.arange(0, BLOCK_E)
    q = load(
        queries_ptr, centers[:, None] * queries_stride_l, depth[None, :],
        in_centers[:, None], DIMS, "rows",
    )  # fmt: skip
    if WIDEN:
        q = q.to(tl.float32)
    total = tl.zeros((BLOCK_L, BLOCK_E), tl.float32)
    mass = tl.zeros((BLOCK_L, BLOCK_N), tl.float32)
    for tile in range(split * tiles, (split + 1) * tiles):
        points = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        in_points = points < num_points
        at = points.to(tl.int64)
        k = load(
            keys_ptr, at[:, None] * keys_stride_n, depth[None, :],
            in_points[:, None], DIMS, "rows",
        )  # fmt: skip
        v = load(
            values_ptr, at[:, None] * values_stride_n, channels[None, :],
            in_points[:, None], WIDTH, "rows",
        )  # fmt: skip
        if WIDEN:
            k, v = k.to(tl.float32), v.to(tl.float32)
        weight = in_points.to(tl.float32)
        if HAS_MASK:
            weight = tl.load(mask_ptr + at * mask_stride_n, in_points, other=0.0)
        shares = _shares(q, k, in_centers, scale) * weight[None, :]
        mass += shares
        # What rounding to the dtype of the values leaves is multiplied as well.
        rounded = shares.to(v.dtype)
        total = tl.dot(rounded, v, total, input_precision="ieee")
        if v.dtype != tl.float32:
            rest = (shares - rounded.to(tl.float32)).to(v.dtype)
            total = tl.dot(rest, v, total, input_precision="ieee")

    out = (split * (tl.num_programs(0) // splits) + item) * num_centers + centers
    tl.store(mass_ptr + out, tl.sum(mass, axis=1), mask=in_centers)
    tl.store(
        total_ptr + out[:, None] * width + channels[None, :],
        total,
        mask=in_centers[:, None] & (channels < width)[None, :],
    )
