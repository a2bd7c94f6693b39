"""Layers of the clustering networks, on channels-last maps ``(B, H, W, C)``.

One layout from the embedding to the output: LayerNorm, Linear and 1x1 convolutions
act on the last dimension as it lies, and 3x3 convolutions see the same memory as a
``channels_last`` image. Nothing is copied to change the order of the axes.
"""

from .assignment import HardAssignment
from .convolution import ChannelLinear, DepthwiseConv, PointwiseConv, SpatialConv
from .embedding import PointEmbedding
from .gate import HeadGate
from .mlp import ConvMLP
from .pooling import ImprovedClusterPool

__all__ = [
    "ChannelLinear",
    "ConvMLP",
    "DepthwiseConv",
    "HardAssignment",
    "HeadGate",
    "ImprovedClusterPool",
    "PointEmbedding",
    "PointwiseConv",
    "SpatialConv",
]
