"""Exact assignment in pure PyTorch whose memory is linear in the points.

The arg-max has no gradient, so the table of similarities is only looked at: it
is made tile by tile and dropped. The length of a point does not change its
arg-max, so only the centres are normalised. The cosine of the winner is then
computed from the points and the gathered centres, which autograd differentiates.
"""

import torch
from torch import Tensor

from ..dispatch import dispatch
from .common import unit

# A tile that stays in the cache of a core is read back by the arg-max at cache
# speed; on a GPU, fewer and larger launches win.
TILE_BYTES = {"cpu": 2 << 20, "cuda": 256 << 20}
# Columns per tile: enough to keep the matrix product busy, few enough to leave
# rows to it as well.
MAX_COLUMNS = 1024


def nearest(points: Tensor, centers: Tensor, tile_bytes: int | None = None) -> Tensor:
    """Index of the most similar centre.

    Args:
        points: ``(B, G, N, D)``.
        centers: ``(B, G, M, D)``.
        tile_bytes: Upper bound of one tile of the table in bytes (one row is the
            least). ``None`` takes ``TILE_BYTES`` of the device.

    Returns:
        ``(B, G, N)`` int64, without gradient.
    """
    with torch.no_grad():
        return _nearest(points.detach(), unit(centers.detach()), tile_bytes)


def _nearest(points: Tensor, centers: Tensor, tile_bytes: int | None) -> Tensor:
    batch, heads, num_points, _ = points.shape
    num_centers = centers.size(2)
    if tile_bytes is None:
        tile_bytes = TILE_BYTES.get(points.device.type, TILE_BYTES["cuda"])
    cells = max(tile_bytes // points.element_size(), 1)

    if batch * heads * num_points * num_centers <= cells:
        return _argmax(points, centers)
    if heads * num_points * num_centers <= cells:
        # Whole images fit: as many at once as the budget holds.
        images = cells // (heads * num_points * num_centers)
        parts = zip(points.split(images), centers.split(images), strict=True)
        return torch.cat([_argmax(p, c) for p, c in parts])

    index = points.new_empty((batch, heads, num_points), dtype=torch.long)
    columns = min(num_centers, MAX_COLUMNS, cells)
    rows = max(cells // columns, 1)
    for b in range(batch):
        for g in range(heads):
            for start in range(0, num_points, rows):
                stop = start + rows
                index[b, g, start:stop] = _argmax_columns(
                    points[b, g, start:stop], centers[b, g], columns
                )
    return index


def _argmax(points: Tensor, centers: Tensor) -> Tensor:
    # (..., N, D) x (..., D, M) -> (..., N, M) -> (..., N)
    return (points @ centers.transpose(-2, -1)).argmax(dim=-1)


def _argmax_columns(points: Tensor, centers: Tensor, columns: int) -> Tensor:
    """Arg-max over centres taken ``columns`` at a time; the first maximum wins."""
    if len(centers) <= columns:
        return _argmax(points, centers)
    best = index = None
    for start in range(0, len(centers), columns):
        table = points @ centers[start : start + columns].transpose(-2, -1)
        score, column = table.max(dim=-1)
        if best is None:
            best, index = score, column
            continue
        # `>` keeps the earlier of two equal scores. NaN is the largest, as in
        # torch.max, and the first one stays.
        better = (score > best) | (score.isnan() & ~best.isnan())
        best = torch.where(better, score, best)
        index = torch.where(better, column + start, index)
    return index


def assign(
    points: Tensor,
    centers: Tensor,
    unit_points: bool = False,
    tile_bytes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Index of the most similar centre and the cosine to it.

    Args:
        points: ``(B, G, N, D)``.
        centers: ``(B, G, M, D)``.
        unit_points: Whether the points have unit length already.
        tile_bytes: As in :func:`nearest`.

    Returns:
        Index ``(B, G, N)`` int64 and differentiable cosine ``(B, G, N)``.
    """
    centers = unit(centers)
    if not unit_points:
        points = unit(points)
    with torch.no_grad():
        index = _nearest(points.detach(), centers.detach(), tile_bytes)
    return index, (points * dispatch(centers, index)).sum(dim=-1)
