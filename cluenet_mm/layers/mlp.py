"""The feed-forward part of a block."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..ops.implementation import is_recorded
from .convolution import ChannelLinear, DepthwiseConv

# On a CPU, wide hidden maps larger than this are computed a few images at a time, in
# inference a few rows, so that they stay in the cache from one operator to the next.
SLICE_BYTES = 8 << 20


class MLP(nn.Module):
    """Linear, GELU, Linear at every point.

    Args:
        channels: Input and output channels ``C``.
        hidden_channels: Channels between the two Linear layers.
        drop_rate: Dropout probability after GELU and after the last layer.
    """

    # Rows above and below a point that its output depends on.
    halo: ClassVar[int] = 0

    def __init__(
        self, channels: int, hidden_channels: int, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = ChannelLinear(channels, hidden_channels)
        self.act = nn.GELU()
        self.fc2 = ChannelLinear(hidden_channels, channels)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, H, W, C)`` to the same shape."""
        if x.device.type != "cpu" or is_recorded():
            return self._output(self.hidden(x))
        row_bytes = x.size(2) * self.fc1.out_features * x.element_size()
        rows = max(SLICE_BYTES // max(row_bytes, 1), 1)
        images = rows // max(x.size(1), 1)
        if images >= len(x):
            return self._output(self.hidden(x))
        if images or torch.is_grad_enabled():
            parts = x.split(max(images, 1))
            return torch.cat([self._output(self.hidden(part)) for part in parts])
        return torch.cat([self._by_rows(image, rows) for image in x.split(1)])

    def hidden(self, x: Tensor) -> Tensor:
        """What the last layer sees: ``(B, H, W, hidden channels)``."""
        return self.drop(self.act(self.fc1(x)))

    def _output(self, hidden: Tensor) -> Tensor:
        return self.drop(self.fc2(hidden))

    def _by_rows(self, x: Tensor, rows: int) -> Tensor:
        """Compute a few rows of one image at a time."""
        height, parts = x.size(1), []
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            first = max(start - self.halo, 0)
            hidden = self.hidden(x[:, first : stop + self.halo])
            parts.append(self._output(hidden[:, start - first : stop - first]))
        return torch.cat(parts, dim=1)


class ConvMLP(MLP):
    """An MLP that sees its neighbors: a depth-wise 3x3 convolution before the GELU.

    Args:
        channels: Input and output channels ``C``.
        hidden_channels: Channels between the two Linear layers.
        drop_rate: Dropout probability after GELU and after the last layer.
    """

    halo: ClassVar[int] = 1

    def __init__(
        self, channels: int, hidden_channels: int, drop_rate: float = 0.0
    ) -> None:
        super().__init__(channels, hidden_channels, drop_rate)
        self.conv = DepthwiseConv(hidden_channels)

    def hidden(self, x: Tensor) -> Tensor:
        """What the last layer sees: ``(B, H, W, hidden channels)``."""
        return self.drop(self.act(self.conv(self.fc1(x))))
