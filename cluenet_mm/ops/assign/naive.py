"""The definition: the whole table of cosines, then its row maxima.

Plain PyTorch, so that it shares no code with the implementations that it judges.
"""

import torch
from torch import Tensor


def assign(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Best center and its cosine, by the dense table of N x M cosines.

    Args:
        points: ``(B, G, N, D)``, floating point.
        centers: ``(B, G, M, D)``, same dtype.

    Returns:
        Index ``(B, G, N)`` int64 and cosine ``(B, G, N)``; autograd differentiates
        the cosine through the table.
    """
    # (B, G, N, D) x (B, G, D, M) -> (B, G, N, M)
    table = _normalize(points) @ _normalize(centers).transpose(-2, -1)
    similarity, index = table.max(dim=-1)
    return index, similarity


def _normalize(x: Tensor) -> Tensor:
    # F.normalize, whose eps of 1e-12 is zero in fp16.
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp_min(max(1e-12, torch.finfo(x.dtype).tiny))
