"""Reducers between stages that pool by clusters."""

from torch import Tensor, nn

from ..ops import grid_centers, hard_aggregate
from .assignment import HardAssignment
from .convolution import PointwiseConv, SpatialConv


class ImprovedClusterPool(nn.Module):
    """Improved cluster pooling (ICP) of CLUENet, stride 2.

    Every point of the map joins the most similar of ``ceil(h/2) * ceil(w/2)``
    centres, wherever it lies; a centre becomes the mean of its members and of its
    own pooled value, passes two 1x1 convolutions, and a strided convolution of
    the map is added. The release floors odd sides and then fails at the addition; here
    both branches take the ceiling.

    Args:
        in_channels: Channels ``C`` of the input.
        out_channels: Channels ``C'`` of the output.
        out_norm: Whether the clustered branch ends with a LayerNorm.
        impl: Implementation of the assignment.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        out_norm: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        self.feature = PointwiseConv(in_channels, in_channels)
        self.assignment = HardAssignment(with_similarity=False, impl=impl)
        self.norm1 = nn.LayerNorm(in_channels)
        self.value = nn.Sequential(
            PointwiseConv(in_channels, in_channels),
            nn.GELU(),
            PointwiseConv(in_channels, out_channels),
        )
        self.norm2 = nn.LayerNorm(out_channels) if out_norm else nn.Identity()
        self.skip = SpatialConv(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``(B, H, W, C)`` to ``(B, ceil(H/2), ceil(W/2), C')``."""
        skip = self.skip(x)
        grid = skip.shape[1:3]
        points = self.feature(x)  # (B, H, W, C)
        centers = grid_centers(points, grid).unsqueeze(1)  # (B, 1, M, C)
        points = points.flatten(1, 2).unsqueeze(1)  # (B, 1, N, C)
        index, _ = self.assignment(points, centers)
        impl = self.assignment.impl
        out = hard_aggregate(points, index, centers, impl=impl)  # (B, 1, M, C)
        out = out.squeeze(1).unflatten(1, tuple(grid))
        return self.norm2(self.value(self.norm1(out))) + skip
