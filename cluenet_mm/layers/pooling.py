"""Reducers between stages: half as many rows and columns, more channels.

With ``nearest_cells`` above 0 a reducer also hands out the :class:`Membership` of its
points. It costs nothing where the number is 0, and nearly nothing where it is 1: the
assignment is made in any case.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ops import Assignment, Folds, grid_centers, hard_aggregate, unit
from .assignment import HardAssignment
from .convolution import PointwiseConv, SpatialConv
from .norm import MapNorm

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


class PointReducer(SpatialConv):
    """Reducer of Context Cluster: a 3x3 convolution, stride 2, padding 1.

    Args:
        in_channels: Channels ``C`` of the input.
        out_channels: Channels ``C'`` of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(
        self, x: Tensor, nearest_cells: int = 0
    ) -> Tensor | tuple[Tensor, Membership]:
        """Reduce ``(B, H, W, C)``; ``nearest_cells`` is 0 or 1."""
        out = super().forward(x)
        if not nearest_cells:
            return out
        cells = self.cells(x.shape[1:3]).to(x.device).expand(len(x), -1, -1)
        return out, Membership(cells.unsqueeze(1), None)

    def cells(self, size: tuple[int, int], index: None = None) -> Tensor:
        """Point of the output that each point joins, by place: half its row and column.

        Args:
            size: Rows and columns of the input.
            index: Nothing is assigned.

        Returns:
            ``(1, H, W)`` int64, counted row by row.
        """
        rows, columns = (torch.arange(side) // 2 for side in size)
        return (rows[:, None] * ((size[1] + 1) // 2) + columns).unsqueeze(0)


class ClusterPool(nn.Module):
    """Cluster pooling of FEC, stride 2.

    A point joins the most similar of the ``ceil(h/2) * ceil(w/2)`` centers, among those
    of its own region; a center becomes the mean of its members and of its own pooled
    value, is normalized, and a strided convolution of the map is added.

    The arg-max passes no gradient, so the layer that makes the features to compare
    never learns (a flaw of the released model that CLUENet's pooling repairs). Its
    parameters are frozen: distributed training would wait for their gradients.

    Args:
        in_channels: Channels ``C`` of the input.
        out_channels: Channels ``C'`` of the output.
        fold_grid: Rows and columns of regions, those of the stage behind.
        window: 0, or the side of the square of centers of its region that a point may
            join, around half its row and column. It is not a weight.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        fold_grid: tuple[int, int] = (1, 1),
        window: int = 0,
    ) -> None:
        super().__init__()
        self.fold_grid = fold_grid
        self.window = window
        self.feature = PointwiseConv(in_channels, out_channels).requires_grad_(False)
        self.value = PointwiseConv(in_channels, out_channels)
        self.assignment = pooling_assignment(window)
        self.norm = MapNorm(out_channels)
        self.skip = SpatialConv(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(
        self, x: Tensor, nearest_cells: int = 0
    ) -> Tensor | tuple[Tensor, Membership]:
        """Pool ``(B, H, W, C)`` to ``(B, ceil(H/2), ceil(W/2), C')``.

        Args:
            x: The map.
            nearest_cells: Cells to hand out for every point. More than 1 make a table
                of all points and cells.

        Returns:
            The pooled map, and the membership where ``nearest_cells`` is not 0.
        """
        folds = Folds.of(x.shape[1:3], self.fold_grid, x.device, multiple=2)
        pooled = folds.halved()
        features = folds.fold(self.feature(x))  # (B * regions, h, w, C')
        values = folds.fold(self.value(x))
        centers, own = (
            grid_centers(y, pooled.region, folds.valid).unsqueeze(1)
            for y in (features, values)
        )  # (B * regions, 1, M, C')
        features = features.flatten(1, 2).unsqueeze(1)
        excluded = None  # padding, as without_repeats has it
        if nearest_cells > 1 or self.window:
            every = torch.arange(centers.size(2), device=x.device)
            every = every.expand(len(centers), 1, -1)
            excluded = folds.without_repeats(every, pooled.region) != every
        index = assigned(self.assignment, features, centers, folds.region, excluded)
        index = folds.without_repeats(index, pooled.region)
        values = values.flatten(1, 2).unsqueeze(1)
        out = hard_aggregate(values, index, own, folds.point_mask(index.size(0)))
        out = pooled.unfold(out.squeeze(1).unflatten(1, pooled.region))
        out = self.norm(out) + self.skip(x)
        if not nearest_cells:
            return out
        similarity = None
        if nearest_cells > 1:
            index, similarity = nearest_cells_of(
                features,
                centers,
                index,
                nearest_cells,
                folds.region,
                self.window,
                excluded,
            )
            similarity = folds.whole_map(similarity)
        return out, Membership(self._whole_map(folds, index), similarity)

    def cells(self, size: tuple[int, int], index: Tensor) -> Tensor:
        """Point of the output that each point joined.

        Args:
            size: Rows and columns of the input.
            index: ``(B * regions, 1, N)``, what ``assignment`` returned.

        Returns:
            ``(B, H, W)`` int64, counted row by row.
        """
        folds = Folds.of(size, self.fold_grid, index.device, multiple=2)
        index = folds.without_repeats(index, folds.halved().region)
        return self._whole_map(folds, index)[:, 0]

    @staticmethod
    def _whole_map(folds: Folds, index: Tensor) -> Tensor:
        """Cells in regions, ``(B * regions, K, N)``, as cells of the whole map."""
        pooled = folds.halved()
        height, width = pooled.region
        region = folds.number(index)
        row = region // folds.grid[1] * height + index // width
        column = region % folds.grid[1] * width + index % width
        return folds.whole_map(row * pooled.size[1] + column)


class ImprovedClusterPool(nn.Module):
    """Improved cluster pooling (ICP) of CLUENet, stride 2.

    Every point of the map joins the most similar of ``ceil(h/2) * ceil(w/2)``
    centers, wherever it lies; a center becomes the mean of its members and of its
    own pooled value, passes two 1x1 convolutions, and a strided convolution of
    the map is added. The release floors odd sides and then fails at the addition; here
    both branches take the ceiling.

    Args:
        in_channels: Channels ``C`` of the input.
        out_channels: Channels ``C'`` of the output.
        out_norm: Whether the clustered branch ends with a LayerNorm.
        window: 0, or the side of the square of centers that a point may join, around
            half its row and column. It is not a weight.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        out_norm: bool = False,
        window: int = 0,
    ) -> None:
        super().__init__()
        self.window = window
        self.feature = PointwiseConv(in_channels, in_channels)
        self.assignment = pooling_assignment(window)
        self.norm1 = nn.LayerNorm(in_channels)
        self.value = nn.Sequential(
            PointwiseConv(in_channels, in_channels),
            nn.GELU(),
            PointwiseConv(in_channels, out_channels),
        )
        self.norm2 = nn.LayerNorm(out_channels) if out_norm else nn.Identity()
        self.skip = SpatialConv(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(
        self, x: Tensor, nearest_cells: int = 0
    ) -> Tensor | tuple[Tensor, Membership]:
        """Pool ``(B, H, W, C)`` to ``(B, ceil(H/2), ceil(W/2), C')``.

        Args:
            x: The map.
            nearest_cells: Cells to hand out for every point. More than 1 make a table
                of all points and cells.

        Returns:
            The pooled map, and the membership where ``nearest_cells`` is not 0.
        """
        skip = self.skip(x)
        grid = skip.shape[1:3]
        points = self.feature(x)  # (B, H, W, C)
        centers = grid_centers(points, grid).unsqueeze(1)  # (B, 1, M, C)
        points = points.flatten(1, 2).unsqueeze(1)  # (B, 1, N, C)
        index = assigned(self.assignment, points, centers, x.shape[1:3])
        out = hard_aggregate(points, index, centers)  # (B, 1, M, C)
        out = out.squeeze(1).unflatten(1, tuple(grid))
        out = self.norm2(self.value(self.norm1(out))) + skip
        if not nearest_cells:
            return out
        similarity = None
        if nearest_cells > 1:
            index, similarity = nearest_cells_of(
                points, centers, index, nearest_cells, x.shape[1:3], self.window
            )
            similarity = similarity.unflatten(2, x.shape[1:3])
        return out, Membership(index.unflatten(2, x.shape[1:3]), similarity)

    def cells(self, size: tuple[int, int], index: Tensor) -> Tensor:
        """Point of the output that each point joined; see :class:`ClusterPool`."""
        return index[:, 0].unflatten(1, size)


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


def assigned(
    assignment: HardAssignment,
    points: Tensor,
    centers: Tensor,
    size: tuple[int, int],
    excluded: Tensor | None = None,
) -> Tensor:
    """Index of the center of each point, ``(B, 1, N)``, by either assignment."""
    place = (size, excluded) if isinstance(assignment, LocalAssignment) else ()
    return assignment(points, centers, *place).index
