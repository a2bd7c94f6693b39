"""Centres to points by gathering, points to centres by adding up."""

import torch
from torch import Tensor


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
    rows = _rows(index, centers.size(2))
    points = centers.flatten(0, 2).index_select(0, rows)  # (B * N * G, D)
    return points.view(batch, num_points, heads, -1).transpose(1, 2)


def collect(points: Tensor, index: Tensor, num_centers: int) -> Tensor:
    """Add up the points of every centre: the transpose of :func:`dispatch`.

    Args:
        points: ``(B, G, N, D)``, floating point.
        index: ``(B, G, N)`` int64 in ``[0, num_centers)``.
        num_centers: ``M``.

    Returns:
        ``(B, G, M, D)`` in the dtype of the points; half precision is summed in fp32.
        On CUDA the order of the additions, and so the last bits, may change from run
        to run unless ``torch.use_deterministic_algorithms(True)`` is set.
    """
    batch, heads, _, dims = points.shape
    total_dtype = torch.promote_types(points.dtype, torch.float32)
    rows = _rows(index, num_centers)
    source = points.transpose(1, 2).reshape(-1, dims).to(total_dtype)
    total = source.new_zeros(batch * heads * num_centers, dims)
    total = total.index_add(0, rows, source)
    return total.view(batch, heads, num_centers, dims).to(points.dtype)


def _rows(index: Tensor, num_centers: int) -> Tensor:
    """Rows of ``centers.flatten(0, 2)`` that the points take: ``(B * N * G)``."""
    batch, heads, _ = index.shape
    items = torch.arange(batch * heads, device=index.device)
    rows = index + num_centers * items.view(batch, heads, 1)
    return rows.transpose(1, 2).flatten()
