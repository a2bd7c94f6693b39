"""Metrics, registered in ``cluenet_mm.registry.METRICS``; they need mmdet."""

from importlib.util import find_spec

__all__ = []

if find_spec("mmdet"):
    from .panoptic_quality import PanopticQuality

    __all__ += ["PanopticQuality"]
