"""Hard assignment: the one centre that is most similar to each point.

``naive`` is the definition and writes the points-by-centres table; ``chunked``
gives the same answer in memory linear in the number of points. The arg-max
carries no gradient; the similarity of the winner does.
"""

from typing import NamedTuple

from torch import Tensor

from . import chunked, naive
from .common import unit

__all__ = ["IMPLEMENTATIONS", "Assignment", "assign", "nearest", "unit"]

IMPLEMENTATIONS = ("auto", "naive", "chunked")


class Assignment(NamedTuple):
    """What a hard assignment keeps: one index and one similarity per point.

    Attributes:
        index: ``(B, G, N)`` int64, the centre of each point, in ``[0, M)``.
        similarity: ``(B, G, N)`` in the dtype of the points, its similarity.
    """

    index: Tensor
    similarity: Tensor


def _check(points: Tensor, centers: Tensor, impl: str) -> None:
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {IMPLEMENTATIONS}, not {impl!r}")
    if points.dim() != 4 or centers.dim() != 4:
        raise ValueError(
            "points and centers must be (B, G, N, D) and (B, G, M, D), not "
            f"{tuple(points.shape)} and {tuple(centers.shape)}"
        )
    if points.shape[:2] != centers.shape[:2] or points.size(-1) != centers.size(-1):
        raise ValueError(
            "points and centers must agree in B, G and D, not "
            f"{tuple(points.shape)} and {tuple(centers.shape)}"
        )
    if centers.size(2) == 0:
        raise ValueError("there must be at least one center")


def nearest(points: Tensor, centers: Tensor, *, impl: str = "auto") -> Tensor:
    """Index of the centre with the largest cosine similarity.

    Args:
        points: ``(B, G, N, D)``, floating point. Their length does not matter.
        centers: ``(B, G, M, D)``, same dtype.
        impl: One of ``IMPLEMENTATIONS``; ``"auto"`` is the fastest that can run.

    Returns:
        ``(B, G, N)`` int64 without gradient. Ties go to the lowest index. A point
        that has a NaN, or meets a centre that has one, gets the first centre
        whose similarity is NaN.

    Raises:
        ValueError: If the shapes do not fit, or ``impl`` is unknown.

    Example:
        >>> points = torch.randn(2, 1, 100, 16)
        >>> nearest(points, points[:, :, ::25]).shape
        torch.Size([2, 1, 100])
    """
    _check(points, centers, impl)
    if impl == "naive":
        return naive.assign(points, centers)[0]
    return chunked.nearest(points, centers)


def assign(
    points: Tensor,
    centers: Tensor,
    *,
    unit_points: bool = False,
    impl: str = "auto",
) -> Assignment:
    """Nearest centre of each point and the cosine to it (differentiable).

    Args:
        points: ``(B, G, N, D)``, floating point.
        centers: ``(B, G, M, D)``, same dtype.
        unit_points: Promises that the points have unit length already, which
            saves normalising them once more.
        impl: One of ``IMPLEMENTATIONS``; ``"auto"`` is the fastest that can run.

    Returns:
        :class:`Assignment`: the index as :func:`nearest` gives it, and the cosine,
        whose gradient reaches the points and the winning centres.

    Raises:
        ValueError: If the shapes do not fit, or ``impl`` is unknown.
    """
    _check(points, centers, impl)
    if impl == "naive":
        index, similarity = naive.assign(points, centers)
    else:
        index, similarity = chunked.assign(points, centers, unit_points=unit_points)
    return Assignment(index, similarity)
