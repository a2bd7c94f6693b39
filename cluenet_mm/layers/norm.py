"""Normalization of whole maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MapNorm(nn.GroupNorm):
    """GroupNorm with one group on a channels-last map.

    Mean and variance are taken over all points and channels of a map, weight and bias
    are per channel. The memory of a map is one row to normalize, whatever the order of
    its axes; :class:`torch.nn.GroupNorm` would copy it to channels-first on a GPU. As
    one of its kind, it is known to options such as MMEngine's ``norm_decay_mult``.

    Args:
        channels: Number of channels ``C``.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(1, channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``(B, H, W, C)``."""
        x = F.layer_norm(x, x.shape[1:], eps=self.eps)
        return torch.addcmul(self.bias.to(x.dtype), x, self.weight.to(x.dtype))
