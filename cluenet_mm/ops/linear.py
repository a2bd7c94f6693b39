"""Matrix products of many rows, on a CPU by oneDNN."""

from torch import Tensor
from torch.nn import functional as F

from .implementation import is_recorded

# PyTorch hands a 1x1 convolution to oneDNN on one thread, too, from this batch on.
MIN_PARTS = 16
MAX_PARTS = 128


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` over the last dimension, as ``F.linear``.

    On a CPU it runs as a 1x1 convolution: the same memory and arithmetic, by oneDNN
    instead of the BLAS that PyTorch was built with, which takes twice as long where
    that is MKL on a processor of another maker.

    Args:
        x: ``(..., D)``, floating point; contiguous, or it is copied.
        weight: ``(C, D)``.
        bias: ``(C,)``, or ``None``.

    Returns:
        ``(..., C)``.

    Example:
        >>> x, weight = torch.randn(2, 14, 14, 32), torch.randn(64, 32)
        >>> linear(x, weight).shape
        torch.Size([2, 14, 14, 64])
    """
    parts = 0
    if x.device.type == "cpu" and not is_recorded():
        parts = _parts(x.numel() // max(x.size(-1), 1))
    if not parts:
        return F.linear(x, weight, bias)
    rows = x.reshape(parts, 1, -1, x.size(-1)).permute(0, 3, 1, 2)
    out = F.conv2d(rows, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.size(0))


def _parts(rows: int) -> int:
    """Into how many equal parts of at least two rows to cut them; 0 where none fits."""
    most = min(MAX_PARTS, rows // 2)
    return next((k for k in range(MIN_PARTS, most + 1) if rows % k == 0), 0)
