"""Data sets, registered in ``cluenet_mm.registry.DATASETS``."""

from .digits import Digits
from .mini_imagenet import MiniImageNet

__all__ = ["Digits", "MiniImageNet"]
