"""Search of the nearest center in pure PyTorch, in memory linear in the points.

The table of similarities is made tile by tile and dropped. The length of a point
does not change its arg-max, so only the centers have to be of unit length.
"""

import torch
from torch import Tensor

from ..linear import linear

# A tile that stays in the cache of a core is read back by the arg-max at cache
# speed; on a GPU, fewer and larger launches win.
TILE_BYTES = {"cpu": 2 << 20, "cuda": 256 << 20}
# Columns per tile: enough to keep the matrix product busy, few enough to leave
# rows to it as well.
MAX_COLUMNS = 1024
# Columns whose maximum is taken together before its position is looked for, and the
# number of such blocks from which that pays.
BLOCK = 64
MIN_BLOCKS = 8


def tile_bytes(x: Tensor) -> int:
    """Upper bound of one tile of a table in bytes, on the device of a tensor."""
    return TILE_BYTES.get(x.device.type, TILE_BYTES["cuda"])


def search(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Index and score of the center with the largest dot product.

    Args:
        points: ``(B, G, N, D)``.
        centers: ``(B, G, M, D)``, same dtype.

    Returns:
        Index ``(B, G, N)`` int64 and dot product ``(B, G, N)``, in the dtype of the
        product. NaN counts as the largest score; the first of equal scores wins.
    """
    batch, heads, num_points, _ = points.shape
    num_centers = centers.size(2)
    cells = max(tile_bytes(points) // points.element_size(), 1)
    images = cells // max(heads * num_points * num_centers, 1)

    if images >= batch:
        score, index = _best(points, centers)
    elif images > 0:
        parts = zip(points.split(images), centers.split(images), strict=True)
        score, index = _cat([_best(p, c) for p, c in parts])
    else:
        columns = min(num_centers, MAX_COLUMNS, cells)
        rows = max(cells // columns // 16 * 16, 1)
        parts = [
            _best_by_columns(part, centers[b, g], columns)
            for b in range(batch)
            for g in range(heads)
            for part in points[b, g].split(rows)
        ]
        score, index = (x.view(batch, heads, num_points) for x in _cat(parts))
    return index, score


def _best(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    # (..., N, D) x (..., D, M) -> (..., N, M) -> (..., N)
    if points.dim() == 2:
        return _row_max(linear(points, centers))
    return _row_max(points @ centers.transpose(-2, -1))


def _row_max(table: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum of every row and its first column: ``table.max(dim=-1)``.

    On a CPU a maximum with its position takes nine times as long as one without in
    fp32. So wide rows that divide are cut into blocks: maxima of the blocks, the first
    best block, and the position inside that block alone.
    """
    columns = table.size(-1)
    fast = table.device.type == "cpu" and table.dtype == torch.float32
    if not fast or columns % BLOCK or columns < MIN_BLOCKS * BLOCK:
        return table.max(dim=-1)
    blocks = table.unflatten(-1, (-1, BLOCK))  # (..., N, B, BLOCK)
    score, block = blocks.amax(dim=-1).max(dim=-1)  # (..., N)
    rows = torch.arange(block.numel()).view_as(block) * (columns // BLOCK) + block
    winners = blocks.reshape(-1, BLOCK).index_select(0, rows.flatten())
    return score, winners.argmax(dim=-1).view_as(block) + block * BLOCK


def _best_by_columns(
    points: Tensor, centers: Tensor, columns: int
) -> tuple[Tensor, Tensor]:
    """Maximum over centers taken ``columns`` at a time; the first one wins."""
    parts = [_best(points, part) for part in centers.split(columns)]
    scores, indices = map(torch.stack, zip(*parts, strict=True))  # (parts, N)
    score, part = scores.max(dim=0)  # NaN is the largest; the first of equal ones
    return score, indices.gather(0, part[None])[0] + part * columns


def _cat(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    scores, indices = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(indices)
