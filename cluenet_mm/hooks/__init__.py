"""Hooks around training and testing; registered on import.

``ClusterVisualizationHook`` is in :mod:`cluenet_mm.interpret`, whose pictures it draws.
"""

from .draw_predictions import DrawPredictionsHook
from .epoch_seed import EpochSeedHook
from .pending_validation import PendingValidationHook
from .strict_load import StrictLoadHook

__all__ = [
    "DrawPredictionsHook",
    "EpochSeedHook",
    "PendingValidationHook",
    "StrictLoadHook",
]
