"""Backbones, registered in ``cluenet_mm.registry.MODELS``."""

from .cluenet import CLUENet
from .clusterformer import ClusterFormer
from .context_cluster import ContextCluster
from .fec import FEC

__all__ = ["FEC", "CLUENet", "ClusterFormer", "ContextCluster"]
