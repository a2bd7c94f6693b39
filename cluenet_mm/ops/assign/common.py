"""What all implementations of the assignment share."""

import torch
from torch import Tensor
from torch.nn import functional as F


def unit(x: Tensor) -> Tensor:
    """Scale the last dimension to unit length; zero vectors stay zero.

    The published eps of 1e-12 vanishes in fp16, where it would turn a zero vector
    into NaN, so the smallest normal number of the dtype bounds it from below.

    Args:
        x: ``(..., D)``, floating point.

    Returns:
        Tensor of the same shape.
    """
    return F.normalize(x, dim=-1, eps=max(1e-12, torch.finfo(x.dtype).tiny))
