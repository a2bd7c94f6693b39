"""Recurrent cross-attention clustering, the core of ClusterFormer."""

import torch
from torch import Tensor, nn

from ..ops import (
    Assignment,
    em_step,
    merge_heads,
    soft_assign,
    split_heads,
)


class SoftAssignment(nn.Module):
    """One step of soft clustering: every point is shared out among the centers.

    It has no parameters. It is a module so that a forward hook can watch every step.

    Args:
        scale: Factor of the dot products, the inverse of a temperature.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, point_mask: Tensor | None
    ) -> Tensor:
        """New centers ``(B, G, L, D)``; see :func:`~cluenet_mm.ops.em_step`."""
        return em_step(queries, keys, values, self.scale, point_mask)

    def winner(self, queries: Tensor, keys: Tensor) -> Assignment:
        """Center with the largest share of each point, and the share."""
        return soft_assign(queries, keys, self.scale)

    def extra_repr(self) -> str:
        """Options shown by ``print(model)``."""
        return f"scale={self.scale:.4g}"


class RecurrentClustering(nn.Module):
    """Steps of expectation and maximization that share their weights.

    ``M = softmax over centers of (q(C) . k(I)) / sqrt(D)``, then ``C = M v(I)`` divided
    by the mass of each center, so many times as asked (ClusterFormer, "recurrent
    cross-attention clustering").

    Queries are made of the centers after every channel was given mean 0 and variance 1
    over the ``L`` centers. The softmax sees the differences between centers alone, so
    that the mean is of no use to it; but means of nearly even shares differ by little,
    the next shares are more even still, and the centers collapse into one within two
    iterations, without a gradient for queries and keys. Scaled, centers stay apart in
    every iteration, and the weights of queries and keys say how sharp the shares are.

    Args:
        channels: Channels ``C`` of the centers, ``G * D``.
        num_heads: Number of heads ``G``.
        num_iterations: Steps; they cost no parameters.

    Raises:
        ValueError: If there is no iteration, or the heads do not divide the channels.
    """

    def __init__(self, channels: int, num_heads: int, num_iterations: int) -> None:
        super().__init__()
        if num_iterations < 1:
            raise ValueError(f"num_iterations must be positive, not {num_iterations}")
        if channels % num_heads:
            raise ValueError(f"{num_heads} heads do not divide {channels} channels")
        self.num_heads = num_heads
        self.num_iterations = num_iterations
        self.query = nn.Linear(channels, channels)
        self.assignment = SoftAssignment((channels // num_heads) ** -0.5)

    def forward(
        self,
        centers: Tensor,
        keys: Tensor,
        values: Tensor,
        point_mask: Tensor | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """Cluster.

        Args:
            centers: ``(B, L, C)``, where to start.
            keys: ``(B, G, N, D)`` of the points.
            values: ``(B, G, N, D)`` of the points.
            point_mask: ``(B, 1, N)``, zero for points that take no part, or ``None``.
            position: ``(B, L, C)`` added to the centers in front of the query, or
                ``None``.

        Returns:
            ``(B, L, C)``: weighted means of the values.
        """
        for _ in range(self.num_iterations):
            if position is not None:
                centers = centers + position
            queries = split_heads(self.query(standardize(centers)), self.num_heads)
            centers = merge_heads(self.assignment(queries, keys, values, point_mask))
        return centers


def standardize(centers: Tensor, eps: float = 1e-5) -> Tensor:
    """Give every channel mean 0 and variance 1 over the centers.

    Args:
        centers: ``(B, L, C)``, floating point.
        eps: Added to the variances. Channels in which all centers are equal become
            zero, as does a single center.

    Returns:
        ``(B, L, C)``, computed in fp32 at least: small differences count.
    """
    x = centers.to(torch.promote_types(centers.dtype, torch.float32))
    x = x - x.mean(dim=1, keepdim=True)
    x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + eps)
    return x.to(centers.dtype)
