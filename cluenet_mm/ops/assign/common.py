"""What all implementations of the assignment share."""

from typing import Any

import torch
from torch import Tensor


def unit(x: Tensor) -> Tensor:
    """Scale the last dimension to unit length; zero vectors stay zero.

    The published eps of 1e-12 vanishes in fp16, where it would turn a zero vector
    into NaN, so the smallest normal number of the dtype bounds it from below.

    Args:
        x: ``(..., D)``, floating point.

    Returns:
        Tensor of the same shape (in fp32 under CUDA's autocast, as its norm is).
    """
    return _Unit.apply(x, max(1e-12, torch.finfo(x.dtype).tiny))


class _Unit(torch.autograd.Function):
    """``F.normalize`` that keeps one tensor instead of two for its backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(eps)
        out = x / length
        ctx.save_for_backward(out, length)
        ctx.dtype = x.dtype
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        out, length = ctx.saved_tensors
        radial = (grad * out).sum(dim=-1, keepdim=True)
        return torch.addcmul(grad, out, radial, value=-1).div_(length).to(
            ctx.dtype
        ), None
