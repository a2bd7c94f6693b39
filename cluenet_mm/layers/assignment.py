"""The hard assignment as a module."""

from typing import Any

import torch
from torch import Tensor, nn

from ..ops import Assignment, assign, nearest


class HardAssignment(nn.Module):
    """Nearest center of every point by cosine similarity.

    It has no parameters. It is a module so that a forward hook can watch every
    assignment of a network: the hook sees points, centers and the
    :class:`~cluenet_mm.ops.Assignment`, and costs nothing when there is none.

    Args:
        with_similarity: Whether the winner's cosine is wanted; where it is not, the
            assignment passes no gradient and ``similarity`` is ``None``.
    """

    def __init__(self, with_similarity: bool = True) -> None:
        super().__init__()
        self.with_similarity = with_similarity

    def forward(self, points: Tensor, centers: Tensor, *place: Any) -> Assignment:
        """Assign points ``(B, G, N, D)`` to centers ``(B, G, M, D)``.

        Where the similarity is wanted, the points must have unit length. Where they lie
        does not matter, see :class:`.nearest_cells.LocalAssignment`.
        """
        if not self.with_similarity:
            return Assignment(nearest(points, centers), None)
        return assign(points, centers, unit_points=True)

    def extra_repr(self) -> str:
        """Options shown by ``print(model)``."""
        return f"with_similarity={self.with_similarity}"


class ScaledAssignment(HardAssignment):
    """Assignment by the learned similarity ``s = sigmoid(beta + alpha * cos)``.

    The arg-max is taken of ``alpha * cos``: the sigmoid is monotone, but saturates. So
    with a negative ``alpha`` the *least* similar center wins, as in the releases.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sim_alpha = nn.Parameter(torch.ones(1))
        self.sim_beta = nn.Parameter(torch.zeros(1))

    def forward(self, points: Tensor, centers: Tensor) -> Assignment:
        """Assign points ``(B, G, N, D)`` of unit length to centers ``(B, G, M, D)``.

        Returns:
            Index and ``s``, both ``(B, G, N)``.
        """
        # Mirrored centers turn the smallest cosine into the largest one.
        sign = torch.where(self.sim_alpha < 0, -1.0, 1.0).to(self.sim_alpha)
        index, cosine = super().forward(points, centers * sign)
        scale = self.sim_alpha * sign
        return Assignment(index, torch.sigmoid(self.sim_beta + scale * cosine))
