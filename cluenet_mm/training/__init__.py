"""What a training run is made of beside networks and data; registered on import.

``tensor_preprocessor`` needs mmpretrain and is imported when its class is looked up.
"""

from .optim_wrapper import (
    GuardedAmpOptimWrapper,
    GuardedOptimWrapper,
    NonFiniteError,
)
from .schedulers import WarmupLR
from .tta import InstanceTTAModel

__all__ = [
    "GuardedAmpOptimWrapper",
    "GuardedOptimWrapper",
    "InstanceTTAModel",
    "NonFiniteError",
    "WarmupLR",
]
