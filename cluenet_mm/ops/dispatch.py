"""Centres back to points."""

import torch
from torch import Tensor


def flat_index(index: Tensor, num_centers: int) -> Tensor:
    """Rows of ``centers.flatten(0, 2)`` that the points belong to.

    Args:
        index: ``(B, G, N)`` int64 in ``[0, num_centers)``.
        num_centers: ``M``.

    Returns:
        ``(B, G, N)`` int64 in ``[0, B * G * M)``.
    """
    batch, heads, _ = index.shape
    first = torch.arange(
        0, batch * heads * num_centers, num_centers, device=index.device
    )
    return index + first.view(batch, heads, 1)


def dispatch(centers: Tensor, index: Tensor) -> Tensor:
    """Give every point the row of its centre.

    Args:
        centers: ``(B, G, M, D)``, floating point.
        index: ``(B, G, N)`` int64 in ``[0, M)``.

    Returns:
        ``(B, G, N, D)`` in the dtype of the centres. In memory the heads of a point
        lie side by side, so ``out.transpose(1, 2).flatten(2)`` is a view. The
        gradient of a centre is the sum over its points.
    """
    batch, heads, num_points = index.shape
    rows = flat_index(index, centers.size(2)).transpose(1, 2).flatten()  # (B * N * G)
    points = centers.flatten(0, 2).index_select(0, rows)
    return points.view(batch, num_points, heads, -1).transpose(1, 2)
