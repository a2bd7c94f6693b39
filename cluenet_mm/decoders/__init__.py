"""ClusterFormer's universal decoder with its heads, and native segmentation.

Registered in ``cluenet_mm.registry.MODELS`` where mmdet and mmseg are installed;
classification needs neither.
"""

from importlib.util import find_spec

__all__ = []

if find_spec("mmdet"):
    from .criterion import ClusterCriterion
    from .decoder import ClusterDecoder, Prediction
    from .detector import ClusterDetector, ClusterHead

    __all__ += [
        "ClusterCriterion",
        "ClusterDecoder",
        "ClusterDetector",
        "ClusterHead",
        "Prediction",
    ]

    if find_spec("mmseg"):
        from .segmentor import ClusterSegHead

        __all__ += ["ClusterSegHead"]

if find_spec("mmseg"):
    from .native_seg_head import NativeSegHead

    __all__ += ["NativeSegHead"]
