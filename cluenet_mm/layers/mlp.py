"""The feed-forward part of a block."""

from torch import Tensor, nn

from .convolution import ChannelLinear, DepthwiseConv


class MLP(nn.Module):
    """Linear, GELU, Linear at every point.

    Args:
        channels: Input and output channels ``C``.
        hidden_channels: Channels between the two Linear layers.
        drop_rate: Dropout probability after GELU and after the last layer.
    """

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
        x = self.drop(self.act(self.fc1(x)))
        return self.drop(self.fc2(x))


class ConvMLP(MLP):
    """An MLP that sees its neighbours: a depth-wise 3x3 convolution before the GELU.

    Args:
        channels: Input and output channels ``C``.
        hidden_channels: Channels between the two Linear layers.
        drop_rate: Dropout probability after GELU and after the last layer.
    """

    def __init__(
        self, channels: int, hidden_channels: int, drop_rate: float = 0.0
    ) -> None:
        super().__init__(channels, hidden_channels, drop_rate)
        self.conv = DepthwiseConv(hidden_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, H, W, C)`` to the same shape."""
        x = self.drop(self.act(self.conv(self.fc1(x))))
        return self.drop(self.fc2(x))
