"""Geometry of a map: coordinates of its points, centres on a grid."""

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
    # Counted in fp32: fp16 cannot tell neighbouring rows of a large image apart.
    axes = [
        torch.arange(side, dtype=torch.float32, device=device) / max(side - 1, 1) - 0.5
        for side in (height, width)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).unsqueeze(0).to(dtype)


def grid_centers(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Initial centres: the means of a grid of cells (adaptive average pooling).

    Args:
        x: ``(B, H, W, C)``, floating point.
        grid: ``(rows, columns)`` of cells; cells overlap or repeat where the map does
            not divide or is smaller than the grid.

    Returns:
        ``(B, rows * columns, C)``.
    """
    pooled = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), grid)  # (B, C, rows, columns)
    return pooled.permute(0, 2, 3, 1).flatten(1, 2)
