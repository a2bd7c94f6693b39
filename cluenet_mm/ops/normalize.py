"""Vectors of unit length."""

from typing import Any

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
        Tensor of the same shape (in fp32 under CUDA's autocast, as its norm is).
    """
    if torch.onnx.is_in_onnx_export():  # which has no functions of two outputs
        return F.normalize(x, dim=-1)
    return _Unit.apply(x, max(1e-12, torch.finfo(x.dtype).tiny))[0]


class _Unit(torch.autograd.Function):
    """``F.normalize`` that keeps one tensor instead of two for its backward pass.

    The length is an output as well, so that the backward pass, which reads both, can
    be differentiated again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(eps)
        return x / spread(length, x), length

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor]
    ) -> None:
        x, ctx.eps = inputs
        ctx.dtype = x.dtype
        ctx.save_for_backward(*output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_length: Tensor | None
    ) -> tuple[Tensor | None, None]:
        out, length = ctx.saved_tensors
        # A length below eps was replaced by a constant.
        long = length > ctx.eps
        grad_x = None
        if grad is not None:
            grad = like_in_memory(grad, out)
            radial = (grad * out).sum(dim=-1, keepdim=True) * long
            radial, divisor = spread(radial, out), spread(length, out)
            grad_x = torch.addcmul(grad, out, radial, value=-1).div_(divisor)
        if grad_length is not None:
            along = grad_length * long * out
            grad_x = along if grad_x is None else grad_x + along
        return None if grad_x is None else grad_x.to(ctx.dtype), None


def spread(column: Tensor, x: Tensor) -> Tensor:
    """A column ``(..., 1)`` as wide as ``x`` where broadcasting it is slow."""
    return like_in_memory(column.expand_as(x), x) if _is_slow(x) else column


def like_in_memory(y: Tensor, x: Tensor) -> Tensor:
    """A tensor with its dimensions in the order of another one's of the same shape.

    An operator on both then runs over memory once from end to end. On a CPU it is else
    slower than the copy: 2 to 3 times in half precision, or if the order of the last
    dimension differs.
    """
    if y.device.type != "cpu" or not (_is_slow(y) or y.stride(-1) != 1):
        return y
    order = sorted(range(x.dim()), key=x.stride, reverse=True)
    back = sorted(range(x.dim()), key=order.__getitem__)
    return y.permute(order).contiguous().permute(back)


def _is_slow(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float16, torch.bfloat16)
