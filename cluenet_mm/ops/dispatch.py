"""Centers to points by gathering, points to centers by adding up."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .heads import merge_heads
from .implementation import current_implementation, is_exporting


def dispatch(centers: Tensor, index: Tensor) -> Tensor:
    """Give every point the row of its center.

    Args:
        centers: ``(B, G, M, D)``, floating point.
        index: ``(B, G, N)`` int64 in ``[0, M)``.

    Returns:
        ``(B, G, N, D)`` in the dtype of the centers. In memory the heads of a point
        lie side by side, so ``out.transpose(1, 2).flatten(2)`` is a view. The
        gradient of a center is the sum over its points.
    """
    batch, heads, num_points = index.shape
    rows = _rows(index, centers.size(2))
    points = centers.flatten(0, 2).index_select(0, rows)  # (B * N * G, D)
    return points.view(batch, num_points, heads, centers.size(3)).transpose(1, 2)


def collect(points: Tensor, index: Tensor, num_centers: int) -> Tensor:
    """Add up the points of every center: the transpose of :func:`dispatch`.

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
    source = points.transpose(1, 2).flatten(0, 2).to(total_dtype)
    total = source.new_zeros(batch * heads * num_centers, dims)
    total = total.index_add(0, rows, source)
    return total.view(batch, heads, num_centers, dims).to(points.dtype)


def dispatch_project(
    centers: Tensor,
    index: Tensor,
    weights: Tensor,
    project: Callable[[Tensor], Tensor],
    bias: Tensor,
) -> Tensor:
    """Dispatch weighted centers, merge the heads, and project the points.

    ``project(concat_g(weights[b, g, n] * centers[b, g, index[b, g, n]]))``

    The projection is linear, so where the centers of all heads are fewer than the
    points, the centers are projected instead, and a point is the weighted sum of one
    projected row per head: no row per point and head is made.

    Args:
        centers: ``(B, G, M, D)``, floating point.
        index: ``(B, G, N)`` int64 in ``[0, M)``.
        weights: ``(B, G, N)``, floating point.
        project: Linear layer on channels-last maps, ``(B, H, W, G * D)`` to
            ``(B, H, W, C)``. It is called once.
        bias: ``(C,)``, what ``project`` adds.

    Returns:
        ``(B, N, C)``.

    Example:
        >>> centers, weights = torch.randn(2, 3, 5, 4), torch.rand(2, 3, 90)
        >>> index = torch.randint(0, 5, (2, 3, 90))
        >>> layer = torch.nn.Linear(12, 7)
        >>> dispatch_project(centers, index, weights, layer, layer.bias).shape
        torch.Size([2, 90, 7])
    """
    _, heads, num_centers, _ = centers.shape
    if current_implementation() == "naive":
        table = one_hot(index, num_centers, weights.to(centers.dtype))  # (B, G, N, M)
        points = table @ centers
    elif is_exporting() or index.size(2) <= heads * num_centers:
        points = dispatch(centers, index) * weights.to(centers.dtype).unsqueeze(-1)
    else:
        # A row per center, zero in the channels of the other heads.
        head = torch.eye(heads, dtype=centers.dtype, device=centers.device)
        rows = centers.unsqueeze(3) * head[:, None, :, None]  # (B, G, M, G, D)
        messages = project(rows.flatten(3))  # (B, G, M, C)
        messages = messages - bias.to(messages.dtype)
        weights = weights.to(messages.dtype).transpose(1, 2).flatten(0, 1)
        table = messages.flatten(0, 2)
        out = _WeightedSum.apply(
            table, _rows(index, num_centers).view_as(weights), weights
        )
        out = out + bias.to(out.dtype)
        return out.view(index.size(0), index.size(2), bias.size(0))
    return project(merge_heads(points).unsqueeze(1)).squeeze(1)


class _WeightedSum(torch.autograd.Function):
    """Weighted sums of rows; the backward pass goes head by head.

    PyTorch's own backward of ``embedding_bag`` sorts the rows, and gathering all heads
    at once would need a row per point and head.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

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
            products = wide_table.index_select(0, row) * wide_grad
            grad_weights.append(products.sum(dim=-1))
            message = wide_grad * weights[:, head, None]
            grad_table = grad_table.index_add(0, row, message)
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
        column of its center, zero elsewhere.
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
