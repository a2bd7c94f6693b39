"""Linear layers and convolutions on channels-last maps."""

from torch import Tensor, nn
from torch.nn import functional as F


class ChannelLinear(nn.Linear):
    """Linear layer over the channels of a channels-last map.

    On a CPU it runs as a 1x1 convolution: the same memory and arithmetic, by oneDNN
    instead of the BLAS that PyTorch was built with, which takes half the time where
    that is MKL on a processor of another maker. The arguments are those of
    :class:`torch.nn.Linear`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, H, W, in_features)`` to ``(B, H, W, out_features)``."""
        if x.device.type != "cpu":
            return super().forward(x)
        weight = self.weight[:, :, None, None]
        return F.conv2d(x.permute(0, 3, 1, 2), weight, self.bias).permute(0, 2, 3, 1)


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
