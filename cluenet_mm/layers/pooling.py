"""Reducers between stages: half as many rows and columns, more channels.

With ``nearest_cells`` above 0 a reducer also hands out the :class:`.Membership` of its
points. It costs nothing where the number is 0, and nearly nothing where it is 1: the
assignment is made in any case.
"""

import torch
from torch import Tensor, nn

from ..ops import Folds, grid_centers, hard_aggregate
from .convolution import PointwiseConv, SpatialConv
from .nearest_cells import Membership, nearest_cells_of, pooling_assignment
from .norm import MapNorm


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
        index, _ = self.assignment(features, centers, folds.region, excluded)
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
        index, _ = self.assignment(points, centers, x.shape[1:3], None)
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
