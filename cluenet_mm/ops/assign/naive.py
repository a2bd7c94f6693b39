"""The definition: the whole table of cosines, then its row maxima."""

from torch import Tensor

from .common import unit


def assign(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Best centre and its cosine, by the dense table of N x M cosines.

    Args:
        points: ``(B, G, N, D)``.
        centers: ``(B, G, M, D)``.

    Returns:
        Index ``(B, G, N)`` int64 and cosine ``(B, G, N)``; autograd differentiates
        the cosine through the table.
    """
    # (B, G, N, D) x (B, G, D, M) -> (B, G, N, M)
    table = unit(points) @ unit(centers).transpose(-2, -1)
    similarity, index = table.max(dim=-1)
    return index, similarity
