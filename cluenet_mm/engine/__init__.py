"""What surrounds a run: optimiser wrappers, hooks and test-time augmentation.

Registered under the scope ``cluenet_mm``; ``cli`` and ``distributed`` serve the
scripts in ``tools/`` and are imported by them.
"""

from importlib.util import find_spec

from .cluster_hook import ClusterVisualizationHook
from .draw import DrawPredictionsHook
from .model import build_model, load_weights
from .optim_wrapper import (
    GuardedAmpOptimWrapper,
    GuardedOptimWrapper,
    NonFiniteError,
)
from .seed_hook import EpochSeedHook
from .strict_load_hook import StrictLoadHook
from .tta import InstanceTTAModel

__all__ = [
    "ClusterVisualizationHook",
    "DrawPredictionsHook",
    "EpochSeedHook",
    "GuardedAmpOptimWrapper",
    "GuardedOptimWrapper",
    "InstanceTTAModel",
    "NonFiniteError",
    "StrictLoadHook",
    "build_model",
    "load_weights",
]

if find_spec("mmpretrain"):
    from .tensor_preprocessor import TensorDataPreprocessor

    __all__ += ["TensorDataPreprocessor"]
