"""Hard assignment: the one center that is most similar to each point.

``naive`` is the definition and writes the points-by-centers table. ``tiled`` (any
device) and ``triton`` (CUDA) give the same answer in memory linear in the points: the
arg-max carries no gradient, so they only *search*; the similarity of the winner is
then differentiated by gathering and scattering.
"""

from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..dispatch import collect, dispatch
from ..implementation import current_implementation, is_exporting
from ..normalize import spread, unit
from . import naive, tiled

__all__ = ["Assignment", "assign", "nearest"]

HAS_TRITON = find_spec("triton") is not None
_SMALL = 64  # points and centers of a tile
_TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class Assignment(NamedTuple):
    """What a hard assignment keeps: one index and one similarity per point.

    Attributes:
        index: ``(B, G, N)`` int64, the center of each point, in ``[0, M)``.
        similarity: ``(B, G, N)`` in the dtype of the points, or ``None`` where only
            the index was wanted.
    """

    index: Tensor
    similarity: Tensor | None


def nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Index of the center with the largest cosine similarity.

    Args:
        points: ``(B, G, N, D)``, floating point. Their length does not matter.
        centers: ``(B, G, M, D)``, same dtype.

    Returns:
        ``(B, G, N)`` int64 without gradient. Equal scores go to the lowest index.
        (Equal centers have equal scores up to rounding: a BLAS may round the last
        columns of a product otherwise, in a table or in a tile of it.) A point that is
        not finite gets index 0; any other point gets the first center that is not
        finite, where there is one.

    Raises:
        ValueError: If the shapes do not fit, or the implementation cannot run.

    Example:
        >>> points = torch.randn(2, 1, 100, 16)
        >>> nearest(points, points[:, :, ::25]).shape
        torch.Size([2, 1, 100])
    """
    impl = _resolve(points, centers)
    with torch.no_grad():
        if impl == "naive":
            return naive.assign(points, centers)[0]
        index = _search(points, _unit_like(centers, points), impl)[0]
        # A point that is not finite has no direction; unit() would make it NaN.
        dtype = torch.promote_types(points.dtype, torch.float32)
        return index * points.sum(dim=-1, dtype=dtype).isfinite()


def assign(
    points: Tensor,
    centers: Tensor,
    *,
    unit_points: bool = False,
) -> Assignment:
    """Nearest center of each point and the cosine to it (differentiable).

    Args:
        points: ``(B, G, N, D)``, floating point.
        centers: ``(B, G, M, D)``, same dtype.
        unit_points: Promises that the points have unit length already, which
            saves normalizing them once more.

    Returns:
        :class:`Assignment`: the index as :func:`nearest` gives it, and the cosine,
        whose gradient reaches the points and the winning centers.

    Raises:
        ValueError: As for :func:`nearest`.
    """
    impl = _resolve(points, centers)
    if impl == "naive":
        return Assignment(*naive.assign(points, centers))
    points = points if unit_points else unit(points)
    centers = _unit_like(centers, points)
    with torch.no_grad():
        index, score = _search(points, centers, impl)
        if score.dtype != points.dtype:  # a low-precision product under autocast
            score = (points * dispatch(centers, index)).sum(dim=-1)
    return Assignment(index, _Winner.apply(points, centers, index, score))


class _Winner(torch.autograd.Function):
    """Dot product of every point and its center, known already; its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        points: Tensor, centers: Tensor, index: Tensor, score: Tensor
    ) -> Tensor:
        return score.view_as(score)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        points, centers, index = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        grad_points = grad_centers = None
        if ctx.needs_input_grad[0]:
            winners = dispatch(centers, index)
            grad_points = spread(grad, winners) * winners
        if ctx.needs_input_grad[1]:
            grad_centers = collect(
                spread(grad, points) * points, index, centers.size(2)
            )
        return grad_points, grad_centers, None, None


def _resolve(points: Tensor, centers: Tensor) -> str:
    """Check the input and choose the implementation."""
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
    impl = current_implementation()
    if impl == "auto":
        if is_exporting():
            return "naive"
        fits = points.is_cuda and points.dtype in _TRITON_DTYPES and HAS_TRITON
        # One tile of the kernel is not worth it: a batched product will do.
        fits = fits and max(points.size(2), centers.size(2)) > _SMALL
        return "triton" if fits else "tiled"
    if impl == "triton":
        if not HAS_TRITON:
            raise ValueError("the implementation triton needs the package triton")
        if points.dtype not in _TRITON_DTYPES:
            raise ValueError(f"the implementation triton does not know {points.dtype}")
    return impl


def _unit_like(centers: Tensor, points: Tensor) -> Tensor:
    # Autocast normalizes in fp32.
    return unit(centers).to(points.dtype)


def _search(points: Tensor, centers: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    """Index and dot product of the best of the unit centers."""
    if impl == "triton":
        from . import triton  # only where it is used: it is an optional package

        return triton.search(points, centers)
    return tiled.search(points, centers)
