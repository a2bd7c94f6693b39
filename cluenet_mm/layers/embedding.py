"""From an image to points: coordinates, strided convolution, position encoding."""

import torch
from torch import Tensor, nn

from ..ops import coordinates
from .convolution import DepthwiseConv


class PointEmbedding(nn.Module):
    """Points of an image: one strided convolution of ``[image, coordinates]``.

    Args:
        in_channels: Channels of the image.
        embed_dims: Channels ``C`` of the points.
        patch: Kernel size, stride and padding of the convolution.
    """

    def __init__(
        self, in_channels: int, embed_dims: int, patch: tuple[int, int, int]
    ) -> None:
        super().__init__()
        kernel_size, stride, padding = patch
        self.min_size = kernel_size - 2 * padding
        self.projection = nn.Conv2d(
            in_channels + 2, embed_dims, kernel_size, stride, padding
        )

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image.

        Args:
            image: ``(B, in_channels, H, W)``, floating point, normalized.

        Returns:
            ``(B, h, w, C)``; rows and columns that do not fill a patch are dropped,
            as a convolution without padding does.

        Raises:
            ValueError: If a side of the image is smaller than one patch, or it has
                other channels.
        """
        batch, channels, height, width = image.shape
        wanted = self.projection.in_channels - 2  # without the coordinates
        if channels != wanted:
            raise ValueError(
                f"cannot embed an image of {channels} channels: the network is for "
                f"{wanted}. Repeat a gray image, or set in_channels"
            )
        if min(height, width) < self.min_size:
            raise ValueError(
                f"cannot embed an image of {height} x {width} pixels: it is smaller "
                f"than one {self.min_size} x {self.min_size} patch. Resize or pad it"
            )
        grid = coordinates(height, width, dtype=image.dtype, device=image.device)
        points = torch.cat([image, grid.expand(batch, -1, -1, -1)], dim=1)
        # Channels-last; torch.vmap does not know memory_format.
        points = points.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return self.projection(points).permute(0, 2, 3, 1)


class PositionalPointEmbedding(PointEmbedding):
    """Embedding of CLUENet: ``x + dwconv(x)`` of the normalized points.

    The depth-wise convolution is a conditional position encoding.

    Args:
        in_channels: Channels of the image.
        embed_dims: Channels ``C`` of the points.
        patch: Kernel size, stride and padding of the convolution.
    """

    def __init__(
        self, in_channels: int, embed_dims: int, patch: tuple[int, int, int]
    ) -> None:
        super().__init__(in_channels, embed_dims, patch)
        self.norm = nn.LayerNorm(embed_dims)
        self.position = DepthwiseConv(embed_dims)

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image, as :meth:`PointEmbedding.forward` does."""
        x = self.norm(super().forward(image))
        return x + self.position(x)
