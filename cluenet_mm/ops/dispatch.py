"""Centres to points by gathering, points to centres by adding up."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


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


def dispatch_project(
    centers: Tensor,
    index: Tensor,
    weights: Tensor,
    projection: Tensor,
    bias: Tensor,
    *,
    impl: str = "auto",
) -> Tensor:
    """Dispatch weighted centres, merge the heads, and project the points.

    ``concat_g(weights[b, g, n] * centers[b, g, index[b, g, n]]) @ projection.T + bias``

    The definition multiplies by a table and projects every point. Both are linear, so
    the few centres can be projected instead, and a point is the weighted sum of one
    projected row per head: no row per point and head is made.

    Args:
        centers: ``(B, G, M, D)``, floating point.
        index: ``(B, G, N)`` int64 in ``[0, M)``.
        weights: ``(B, G, N)``, floating point.
        projection: ``(C, G * D)``.
        bias: ``(C,)``.
        impl: ``"naive"`` computes the definition, anything else gathers.

    Returns:
        ``(B, N, C)``.
    """
    batch, heads, num_centers, _ = centers.shape
    if impl == "naive":
        table = one_hot(index, num_centers, weights.to(centers.dtype))  # (B, G, N, M)
        points = (table @ centers).transpose(1, 2).flatten(2)  # (B, N, G * D)
        return F.linear(points, projection, bias)
    # (B, G, M, D) x (G, D, C) -> (B, G, M, C)
    messages = centers @ projection.unflatten(1, (heads, -1)).permute(1, 2, 0)
    weights = weights.to(messages.dtype).transpose(1, 2).reshape(-1, heads)
    rows = _rows(index, num_centers).view(-1, heads)  # (B * N, G)
    table = messages.flatten(0, 2)
    if torch.onnx.is_in_onnx_export():  # which has no sums of bags
        out = (weights.unsqueeze(1) @ table[rows]).squeeze(1)
    else:
        out = _WeightedSum.apply(table, rows, weights)
    return (out + bias.to(out.dtype)).view(batch, -1, len(bias))


class _WeightedSum(torch.autograd.Function):
    """Weighted sums of rows; the backward pass goes head by head.

    PyTorch's own backward of ``embedding_bag`` sorts the rows, and gathering all heads
    at once would need a row per point and head.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(table, rows, weights)
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        table, rows, weights = ctx.saved_tensors
        # Products and sums in fp32 at least: they are many and round badly.
        dtype = torch.promote_types(table.dtype, torch.float32)
        wide_table, wide_grad = table.to(dtype), grad.to(dtype)
        grad_table = torch.zeros_like(wide_table)
        grad_weights = []
        for head in range(rows.size(1)):
            row = rows[:, head]
            products = wide_table.index_select(0, row).mul_(wide_grad)
            grad_weights.append(products.sum(dim=-1))
            message = wide_grad * weights[:, head, None]
            grad_table.index_add_(0, row, message)
        grad_weights = torch.stack(grad_weights, dim=-1).to(weights.dtype)
        return grad_table.to(table.dtype), None, grad_weights


def one_hot(index: Tensor, num_centers: int, weights: Tensor) -> Tensor:
    """The dense table that an assignment stands for, for the naive definitions.

    Args:
        index: ``(B, G, N)`` int64 in ``[0, num_centers)``.
        num_centers: ``M``.
        weights: ``(B, G, N)`` or a shape that expands to it.

    Returns:
        ``(B, G, N, M)`` in the dtype of the weights: the weight of a point in the
        column of its centre, zero elsewhere.
    """
    table = weights.new_zeros(*index.shape, num_centers)
    weights = weights.expand(index.shape).unsqueeze(-1)
    return table.scatter(-1, index.unsqueeze(-1), weights)


def _rows(index: Tensor, num_centers: int) -> Tensor:
    """Rows of ``centers.flatten(0, 2)`` that the points take: ``(B * N * G)``."""
    batch, heads, _ = index.shape
    items = torch.arange(batch * heads, device=index.device)
    rows = index + num_centers * items.view(batch, heads, 1)
    return rows.transpose(1, 2).flatten()
