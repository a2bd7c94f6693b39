"""Layers of the clustering networks, on channels-last maps ``(B, H, W, C)``.

One layout from the embedding to the output: LayerNorm, Linear and 1x1 convolutions
act on the last dimension as it lies, and 3x3 convolutions see the same memory as a
``channels_last`` image. Nothing is copied to change the order of the axes.
"""

from .assignment import HardAssignment, ScaledAssignment
from .convolution import ChannelLinear, DepthwiseConv, PointwiseConv, SpatialConv
from .embedding import PointEmbedding, PositionalPointEmbedding
from .gate import HeadGate
from .mlp import MLP, ConvMLP
from .nearest_cells import Membership
from .norm import MapNorm
from .pooling import ClusterPool, ImprovedClusterPool, PointReducer
from .recurrent import RecurrentClustering, SoftAssignment

__all__ = [
    "MLP",
    "ChannelLinear",
    "ClusterPool",
    "ConvMLP",
    "DepthwiseConv",
    "HardAssignment",
    "HeadGate",
    "ImprovedClusterPool",
    "MapNorm",
    "Membership",
    "PointEmbedding",
    "PointReducer",
    "PointwiseConv",
    "PositionalPointEmbedding",
    "RecurrentClustering",
    "ScaledAssignment",
    "SoftAssignment",
    "SpatialConv",
]
