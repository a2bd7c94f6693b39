"""Backbones, registered in ``cluenet_mm.registry.MODELS``."""

from .cluenet import CLUENet

__all__ = ["CLUENet"]
