"""What surrounds a run: optimizer wrappers, hooks and test-time augmentation.

Registered under the scope ``cluenet_mm``; ``cli`` and ``distributed`` serve the
scripts in ``tools/`` and are imported by them, ``tensor_preprocessor`` needs mmpretrain
and is imported when its class is looked up.
"""

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
