"""Points to centres: soft (cosine attention) and hard (scatter mean)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .assign.common import unit
from .dispatch import flat_index


def soft_aggregate(
    centers: Tensor, points: Tensor, values: Tensor, temperature: Tensor
) -> Tensor:
    """Temperature-scaled cosine attention from the centres over all points.

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
    return F.scaled_dot_product_attention(queries, points, values, scale=1.0)


def hard_aggregate(
    values: Tensor, index: Tensor, initial: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Weighted mean of the members of each centre and the centre's own value.

    ``(initial + sum_n w_n * values_n) / (1 + sum_n w_n)`` over the points ``n`` that
    are assigned to the centre; a centre without members keeps its own value.

    Args:
        values: ``(B, G, N, D)``, floating point.
        index: ``(B, G, N)`` int64 in ``[0, M)``.
        initial: ``(B, G, M, D)``, the centre's own value; its weight is one.
        weights: ``(B, G, N)``, non-negative; ``None`` counts every member once.

    Returns:
        ``(B, G, M, D)`` in the dtype of ``initial``. Sums of half-precision values
        are accumulated in fp32. On CUDA the order of the additions, and so
        the last bits, may change from run to run unless
        ``torch.use_deterministic_algorithms(True)`` is set.
    """
    total_dtype = torch.promote_types(initial.dtype, torch.float32)
    rows = flat_index(index, initial.size(2)).transpose(1, 2).flatten()  # (B * N * G)
    values = values.transpose(1, 2).to(total_dtype)  # (B, N, G, D)
    if weights is None:
        weights = values.new_ones(len(rows))
    else:
        weights = weights.transpose(1, 2).to(total_dtype)  # (B, N, G)
        values = values * weights[..., None]
        weights = weights.flatten()

    total = initial.to(total_dtype).flatten(0, 2)  # (B * G * M, D)
    total = total.index_add(0, rows, values.flatten(0, 2))
    mass = total.new_ones(len(total)).index_add(0, rows, weights)
    return (total / mass[:, None]).view(initial.shape).to(initial.dtype)
