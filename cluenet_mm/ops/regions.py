"""Geometry of a map: coordinates of its points, regions, centers on a grid."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def coordinates(
    height: int,
    width: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Row and column of every point in ``[-0.5, 0.5]``.

    ``i / (height - 1) - 0.5``, then ``j / (width - 1) - 0.5``; a side of one point
    has coordinate -0.5.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        dtype: Floating dtype of the result.
        device: Device of the result.

    Returns:
        ``(1, 2, height, width)``.
    """
    # Counted in fp32: fp16 cannot tell neighboring rows of a large image apart.
    axes = [
        torch.arange(side, dtype=torch.float32, device=device) / max(side - 1, 1) - 0.5
        for side in (height, width)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).unsqueeze(0).to(dtype)


class Folds(NamedTuple):
    """A partition of maps into equal regions.

    A map that does not divide is padded with zeros at its bottom and right, and
    ``valid`` keeps the padding out of centers; a map that divides is
    split as the releases do, and ``valid`` is ``None``.

    Attributes:
        size: Rows and columns of the map.
        grid: Rows and columns of regions.
        region: Rows and columns of points in a region.
        valid: ``(grid rows * grid columns, region rows, region columns, 1)`` bool, or
            ``None`` if there is no padding.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    region: tuple[int, int]
    valid: Tensor | None

    @classmethod
    def of(
        cls,
        size: tuple[int, int],
        grid: tuple[int, int],
        device: torch.device,
        multiple: int = 1,
    ) -> "Folds":
        """Partition maps of a size into ``grid`` regions.

        Args:
            size: Rows and columns of the map.
            grid: Rows and columns of regions.
            device: Device of ``valid``.
            multiple: What the sides of a region are a multiple of.
        """
        size, grid = tuple(size), tuple(grid)
        if multiple > 1 and grid == (1, 1):
            multiple = 1  # nothing to keep aligned, so nothing to pad
        region = tuple(
            multiple * -(-side // (parts * multiple))
            for side, parts in zip(size, grid, strict=True)
        )
        folds = cls(size, grid, region, None)
        if (region[0] * grid[0], region[1] * grid[1]) == folds.size:
            return folds
        inside = torch.ones((1, *size, 1), dtype=torch.bool, device=device)
        return folds._replace(valid=folds.fold(inside))

    def fold(self, x: Tensor) -> Tensor:
        """Split maps into regions.

        Args:
            x: ``(B, H, W, C)``.

        Returns:
            ``(B * grid rows * grid columns, region rows, region columns, C)``: the
            regions of an image lie together, row by row.
        """
        (rows, columns), (height, width) = self.grid, self.region
        if self.grid == (1, 1):
            return x
        below = rows * height - self.size[0]
        right = columns * width - self.size[1]
        if below or right:
            x = F.pad(x, (0, 0, 0, right, 0, below))
        # (B, rows, height, columns, width, C) -> (B, rows, columns, height, width, C)
        x = x.unflatten(2, (columns, width)).unflatten(1, (rows, height))
        return x.permute(0, 1, 3, 2, 4, 5).flatten(0, 2)

    def unfold(self, x: Tensor) -> Tensor:
        """Put regions back together and crop the padding.

        Args:
            x: ``(B * grid rows * grid columns, region rows, region columns, C)``.

        Returns:
            ``(B, H, W, C)``.
        """
        if self.grid == (1, 1):
            return x
        # (B, rows, columns, height, width, C) -> (B, rows, height, columns, width, C)
        x = x.unflatten(0, (-1, *self.grid)).permute(0, 1, 3, 2, 4, 5)
        x = x.flatten(3, 4).flatten(1, 2)
        return x[:, : self.size[0], : self.size[1]]

    def halved(self) -> "Folds":
        """The same regions on a map with half as many rows and columns, rounded up."""
        size, region = (
            tuple(-(-side // 2) for side in sides) for sides in (self.size, self.region)
        )
        return Folds(size, self.grid, region, None)

    def number(self, index: Tensor) -> Tensor:
        """Region of every entry of ``(B * regions, G, N)``: ``(B * regions, 1, 1)``."""
        regions = torch.arange(self.grid[0] * self.grid[1], device=index.device)
        return regions.repeat(index.size(0) // len(regions))[:, None, None]

    def whole_map(self, x: Tensor) -> Tensor:
        """Put values of points ``(B * regions, G, N)`` together: ``(B, G, H, W)``."""
        x = x.unflatten(2, self.region).permute(0, 2, 3, 1)
        return self.unfold(x).permute(0, 3, 1, 2)

    def point_mask(self, count: int) -> Tensor | None:
        """Weights that leave the padding out of an aggregation.

        Args:
            count: ``B * regions``.

        Returns:
            ``(B * regions, 1, N)`` of zeros and ones in fp32, or ``None`` where there
            is no padding.
        """
        if self.valid is None:
            return None
        valid = self.valid.flatten(1).unsqueeze(1).float()  # (regions, 1, N)
        return valid.repeat(count // len(valid), 1, 1)

    def without_repeats(self, index: Tensor, grid: tuple[int, int]) -> Tensor:
        """Send the points of cells that lie in the padding to the first cell.

        :func:`grid_centers` gives such cells the value of the first one. Rounding in a
        matrix product may still tell two equal columns apart.

        Args:
            index: ``(B * regions, G, N)`` int64, cells of ``grid`` in a region.
            grid: Rows and columns of cells.

        Returns:
            The index, of the same shape.
        """
        if self.valid is None:
            return index
        mass = _pool(self.valid.float(), grid).squeeze(-1)  # (regions, M)
        cells = torch.arange(mass.size(1), device=index.device)
        cells = torch.where(mass > 0, cells, 0)
        cells = cells.repeat(index.size(0) // cells.size(0), 1).unsqueeze(1)
        return cells.expand(-1, index.size(1), -1).gather(2, index)


def grid_centers(
    x: Tensor, grid: tuple[int, int], valid: Tensor | None = None
) -> Tensor:
    """Initial centers: the means of a grid of cells (adaptive average pooling).

    Args:
        x: ``(B, H, W, C)``, floating point.
        grid: ``(rows, columns)`` of cells; cells overlap or repeat where the map does
            not divide or is smaller than the grid.
        valid: ``(B, H, W, 1)`` bool (or a ``B`` that divides this one and repeats);
            points outside take no part. A cell without any valid point takes the
            value of the first cell, which wins every tie between the two.

    Returns:
        ``(B, rows * columns, C)``.
    """
    if valid is None:
        return _pool(x, grid)
    weight = valid.to(x.dtype).repeat(x.size(0) // valid.size(0), 1, 1, 1)
    total, mass = _pool(x * weight, grid), _pool(weight, grid)
    centers = total / mass.clamp(min=torch.finfo(x.dtype).tiny)
    return torch.where(mass > 0, centers, centers[:, :1])


def _pool(x: Tensor, grid: tuple[int, int]) -> Tensor:
    pooled = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), grid)  # (B, C, rows, columns)
    # No copy, except where a compiler assumes another layout for a map of one row.
    return pooled.permute(0, 2, 3, 1).flatten(1, 2).contiguous()
