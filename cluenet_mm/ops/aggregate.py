"""Points to centers: soft (cosine attention) and hard (scatter mean)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .dispatch import collect, one_hot
from .implementation import current_implementation
from .normalize import unit

_HALF = (torch.float16, torch.bfloat16)
# Points up to which the table of CLUENet's 16 to 49 centers stays in a core's cache.
FEW_POINTS = 1024


def soft_aggregate(
    centers: Tensor, points: Tensor, values: Tensor, temperature: Tensor
) -> Tensor:
    """Temperature-scaled cosine attention from the centers over all points.

    ``softmax_N(cos(centers, points) / temperature) @ values``, CLUENet's global and
    soft aggregation.

    Args:
        centers: ``(B, G, M, D)``.
        points: ``(B, G, N, D)``, already of unit length (see
            :func:`~cluenet_mm.ops.unit`), since the caller needs them so as well.
        values: ``(B, G, N, D)``.
        temperature: Scalar tensor, positive, with gradient.

    Returns:
        ``(B, G, M, D)``.
    """
    queries = unit(centers) / temperature
    few = points.size(2) <= FEW_POINTS or values.dtype in _HALF
    if values.device.type == "cpu" and few:
        # PyTorch's fused kernel takes up to 1.5 times as long here, in half precision
        # 2 to 9 times.
        shares = (queries.to(points.dtype) @ points.transpose(-2, -1)).softmax(dim=-1)
        return shares.to(values.dtype) @ values
    return F.scaled_dot_product_attention(queries, points, values, scale=1.0)


def hard_aggregate(
    values: Tensor,
    index: Tensor,
    initial: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Weighted mean of the members of each center and the center's own value.

    ``(initial + sum_n w_n * values_n) / (1 + sum_n w_n)`` over the points ``n`` that
    are assigned to the center; a center without members keeps its own value.

    Args:
        values: ``(B, G, N, D)``, floating point.
        index: ``(B, G, N)`` int64 in ``[0, M)``.
        initial: ``(B, G, M, D)``, the center's own value; its weight is one.
        weights: ``(B, G, N)``, non-negative; ``None`` counts every member once.

    Returns:
        ``(B, G, M, D)`` in the dtype of ``initial``. Sums and their order are those of
        :func:`~cluenet_mm.ops.collect`.
    """
    num_centers = initial.size(2)
    # Counted in fp32: fp16 cannot hold the sum over many members.
    values = values.to(torch.promote_types(initial.dtype, torch.float32))
    shares = values.new_ones(1) if weights is None else weights.to(values.dtype)
    shares = shares.expand(index.shape)
    if current_implementation() == "naive":
        table = one_hot(index, num_centers, shares).transpose(-2, -1)  # (B, G, M, N)
        total, mass = table @ values, table.sum(dim=-1, keepdim=True)
    else:
        if weights is not None:
            values = values * shares.unsqueeze(-1)
        total = collect(values, index, num_centers)
        mass = collect(shares.unsqueeze(-1), index, num_centers)
    return ((total + initial) / (mass + 1)).to(initial.dtype)
