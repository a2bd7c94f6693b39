"""Metrics, registered in ``cluenet_mm.registry.METRICS``.

``PanopticQuality`` needs mmdet.
"""

from importlib.util import find_spec

from .boundary import BoundaryFScore

__all__ = ["BoundaryFScore"]

if find_spec("mmdet"):
    from .panoptic_quality import PanopticQuality

    __all__ += ["PanopticQuality"]
