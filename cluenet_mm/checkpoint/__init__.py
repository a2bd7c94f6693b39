"""Checkpoints: where they lie, what is safe to read, and whether they fit a model.

* :mod:`.safe` reads and writes files, with nothing executed and nothing half-written.
* :mod:`.schemes` finds the file behind an address such as ``cluenet_mm://NAME``.
* :mod:`.load` loads one and reads its parts.
* :mod:`.fit` judges whether weights are those of a model, and gives them to it.
* :mod:`.resume` finds what a run goes on from.
"""

from .fit import check_weights, load_weights
from .load import dataset_meta, load_checkpoint, register_safe_loader
from .resume import check_resume, latest_checkpoint
from .safe import (
    AtomicLocalBackend,
    CheckpointError,
    MissingCheckpointError,
    register_atomic_writer,
    save_checkpoint,
)
from .schemes import checkpoint_file

__all__ = [
    "AtomicLocalBackend",
    "CheckpointError",
    "MissingCheckpointError",
    "check_resume",
    "check_weights",
    "checkpoint_file",
    "dataset_meta",
    "latest_checkpoint",
    "load_checkpoint",
    "load_weights",
    "register_atomic_writer",
    "register_safe_loader",
    "save_checkpoint",
]
