"""What surrounds a training run: optimiser wrappers and hooks for MMEngine.

Registered under the scope ``cluenet_mm``; ``cli`` and ``distributed`` serve the
scripts in ``tools/`` and are imported by them.
"""

from .model import build_model
from .optim_wrapper import (
    GuardedAmpOptimWrapper,
    GuardedOptimWrapper,
    NonFiniteLossError,
)
from .seed_hook import EpochSeedHook
from .strict_load_hook import StrictLoadHook

__all__ = [
    "EpochSeedHook",
    "GuardedAmpOptimWrapper",
    "GuardedOptimWrapper",
    "NonFiniteLossError",
    "StrictLoadHook",
    "build_model",
]
