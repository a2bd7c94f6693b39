"""Checkpoints: where they lie, what is safe to read, and whether they fit a model.

* :mod:`.safe` reads and writes files, with nothing executed and nothing half-written.
* :mod:`.schemes` finds the file behind an address such as ``cluenet_mm://NAME``.
* :mod:`.load` judges what a checkpoint holds and gives it to a model.
"""

from .load import (
    check_resume,
    check_weights,
    dataset_meta,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    register_safe_loader,
)
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
