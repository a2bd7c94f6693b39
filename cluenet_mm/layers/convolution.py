"""Linear layers and convolutions on channels-last maps."""

from torch import Tensor, nn

from ..ops import linear


class ChannelLinear(nn.Linear):
    """Linear layer over the last dimension by :func:`cluenet_mm.ops.linear`.

    The arguments are those of :class:`torch.nn.Linear`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        return linear(x, self.weight, self.bias)


class PointwiseConv(ChannelLinear):
    """1x1 convolution of a channels-last map.

    A class of its own because the releases store and initialize it as a convolution.
    """


class SpatialConv(nn.Conv2d):
    """2-D convolution from a channels-last map to a channels-last map.

    The arguments are those of :class:`torch.nn.Conv2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, H, W, C)`` to ``(B, H', W', C')``."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class DepthwiseConv(SpatialConv):
    """3x3 depth-wise convolution of a channels-last map, same size, with bias.

    Args:
        channels: Number of channels ``C``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)
