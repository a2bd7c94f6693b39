"""Which centers of a pooling a point may join, and which are the nearest to it."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..ops import Assignment, unit
from .assignment import HardAssignment

# Cosine of a cell that no point may join; small enough to get no weight at all.
NEVER = -1e4


class Membership(NamedTuple):
    """Cells of the next stage's map that the points of a map belong to.

    Attributes:
        index: ``(B, K, h, w)`` int64, the ``K`` nearest cells of every point, the one
            that it was pooled into first; counted row by row.
        similarity: ``(B, K, h, w)``, the cosine to each of them, differentiable, and
            :data:`NEVER` where there are fewer than ``K``. ``None`` where ``K`` is 1.
    """

    index: Tensor
    similarity: Tensor | None


def compare(
    points: Tensor,
    centers: Tensor,
    size: tuple[int, int],
    window: int,
    excluded: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cosine of every point to the centers that it may join.

    Args:
        points: ``(B, 1, N, D)``, those of a map of ``size``, row by row.
        centers: ``(B, 1, M, D)``, those of a map of half as many rows and columns.
        size: Rows and columns of the points.
        window: 0 for all centers, else the side of the square of centers around half
            the row and column of a point.
        excluded: ``(B, 1, M)`` bool, centers that no point may join.

    Returns:
        Indices of centers ``(1, N, K)`` int64, and cosines ``(B, N, K)``:
        differentiable, and :data:`NEVER` for excluded centers and outside of the map.
    """
    points, centers = unit(points.squeeze(1)), unit(centers.squeeze(1))
    if not window:
        index = torch.arange(centers.size(1), device=points.device)
        cosine = points @ centers.transpose(1, 2)
        if excluded is not None:
            cosine = cosine.masked_fill(excluded, NEVER)
        return index.expand(1, points.size(1), -1), cosine
    offsets = torch.arange(window, device=points.device) - window // 2
    height, width = (size[0] + 1) // 2, (size[1] + 1) // 2
    rows, columns = (
        torch.arange(side, device=points.device)[:, None] // 2 + offsets
        for side in size
    )  # (H, window), (W, window)
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    valid = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    index, valid = (y.flatten(2).flatten(0, 1).unsqueeze(0) for y in (index, valid))
    near = centers[:, index[0]]  # (B, N, K, D)
    cosine = (near @ points.unsqueeze(-1)).squeeze(-1)
    if excluded is not None:
        valid = valid & ~excluded[:, 0, index[0]]
    return index, cosine.masked_fill(~valid, NEVER)


class LocalAssignment(HardAssignment):
    """Most similar of the centers near to a point; see :func:`compare`.

    Args:
        window: Side of the square of centers, odd.

    Raises:
        ValueError: If the window is not odd.
    """

    def __init__(self, window: int) -> None:
        super().__init__(with_similarity=False)
        if window < 1 or window % 2 == 0:
            raise ValueError(f"a window of centers has an odd side, not {window}")
        self.window = window

    def forward(
        self,
        points: Tensor,
        centers: Tensor,
        size: tuple[int, int],
        excluded: Tensor | None,
    ) -> Assignment:
        """Assign points to centers; the arguments are those of :func:`compare`."""
        with torch.no_grad():
            index, cosine = compare(points, centers, size, self.window, excluded)
            best = cosine.argmax(dim=2, keepdim=True)  # (B, N, 1)
            index = index.expand(len(best), -1, -1).gather(2, best)
        return Assignment(index.transpose(1, 2), None)


def nearest_cells_of(
    points: Tensor,
    centers: Tensor,
    joined: Tensor,
    count: int,
    size: tuple[int, int],
    window: int,
    excluded: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The most similar centers of every point, the one that it joined first.

    Args:
        points: ``(B, 1, N, D)``.
        centers: ``(B, 1, M, D)``.
        joined: ``(B, 1, N)`` int64, the center that each point joined: rounding may
            rank it second here.
        count: How many; no more are given than there are.
        size: Rows and columns of the points.
        window: As for :func:`compare`.
        excluded: As for :func:`compare`.

    Returns:
        Index and cosine, both ``(B, K, N)``; the cosine is differentiable.
    """
    index, cosine = compare(points, centers, size, window, excluded)
    index = index.expand(len(cosine), -1, -1)
    joined = joined.transpose(1, 2)  # (B, N, 1)
    ranked = cosine.detach()
    # Outside of the map the first place that has the index may be a copy of it.
    first = (index == joined) & (ranked > NEVER)
    ranked = ranked.masked_fill(first, -NEVER)
    chosen = ranked.topk(min(count, ranked.size(2)), dim=2).indices
    index, cosine = index.gather(2, chosen), cosine.gather(2, chosen)
    # Places outside of the map give way to one inside.
    index = torch.where(cosine > NEVER, index, joined)
    return index.transpose(1, 2), cosine.transpose(1, 2)


def pooling_assignment(window: int) -> HardAssignment:
    """Assignment among all centers, or among those in a window."""
    return LocalAssignment(window) if window else HardAssignment(with_similarity=False)
