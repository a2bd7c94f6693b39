"""Datasets, registered in ``cluenet_mm.registry.DATASETS``.

Classification needs neither mmdet nor mmseg: their datasets are there if they are.
"""

from importlib.util import find_spec

from .digits import Digits
from .mini_imagenet import MiniImageNet
from .tensor_images import TensorImages

__all__ = ["Digits", "MiniImageNet", "TensorImages"]

if find_spec("mmdet"):
    from .digits_instances import DigitsInstances
    from .digits_panoptic import DigitsPanoptic
    from .load_panoptic import LoadPanoptic

    __all__ += ["DigitsInstances", "DigitsPanoptic", "LoadPanoptic"]

if find_spec("mmseg"):
    from .digits_semantic import DigitsSemantic

    __all__ += ["DigitsSemantic"]
