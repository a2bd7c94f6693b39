"""Several processes: which of them speaks, and how they join without a GPU."""

import gc
import logging
import os

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.logging import print_log
from torch import distributed

from ..errors import is_first_process

_SYNCHRONIZED_NORMS = ("SyncBN", "MMSyncBN", "SyncBatchNorm")


def say(message: str) -> None:
    """Print on the first process."""
    if is_first_process():
        print(message, flush=True)


def setup_launcher(cfg: Config, launcher: str) -> None:
    """Set a config's launcher and, without a GPU, do MMEngine's part with gloo.

    MMEngine 0.10.7 initializes CUDA devices for every launcher and hands their
    indices to DDP. Both are settled here for the CPU, before the runner is built.
    Synchronized batch norm, which PyTorch has for GPUs only, becomes ordinary.

    Args:
        cfg: Changed in place.
        launcher: ``"none"``, ``"pytorch"`` (torchrun), ``"slurm"`` or ``"mpi"``.

    Raises:
        ValueError: The launcher needs a GPU, or torchrun did not start the process.
    """
    cfg.launcher = launcher
    if launcher == "pytorch" and "RANK" not in os.environ:
        raise ValueError(
            "cannot use --launcher pytorch without torchrun. Start with "
            "tools/dist_train.sh or tools/dist_test.sh"
        )
    if launcher == "none" or get_device() not in ("cpu", "mps"):
        return
    if launcher != "pytorch":
        raise ValueError(
            f"cannot use --launcher {launcher} on CPUs. Use tools/dist_train.sh"
        )
    distributed.init_process_group("gloo")
    wrapper = cfg.get("model_wrapper_cfg") or ConfigDict(
        type="MMDistributedDataParallel",
        broadcast_buffers=False,
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    wrapper.device_ids = None
    cfg.model_wrapper_cfg = wrapper
    synchronized = cfg.pop("sync_bn", None)  # MMEngine would convert all batch norms
    if _without_sync_norm(cfg.get("model")) or synchronized:
        print_log(
            "Synchronized batch norm became ordinary batch norm: it needs a GPU",
            logger="current",
            level=logging.WARNING,
        )


def finish() -> None:
    """Leave the process group, where there is one, together with the other ranks.

    To be called when the runner is out of scope: its model holds the group, and
    gloo's threads must end before the interpreter does, which they abort otherwise.
    """
    if distributed.is_initialized():
        gc.collect()
        distributed.barrier()
        distributed.destroy_process_group()


def _without_sync_norm(node: object) -> int:
    """Replace synchronized norms in a model's config and count them."""
    if isinstance(node, list | tuple):
        return sum(_without_sync_norm(child) for child in node)
    if not isinstance(node, dict):
        return 0
    count = sum(_without_sync_norm(child) for child in node.values())
    if node.get("type") in _SYNCHRONIZED_NORMS:
        node["type"] = "BN"
        count += 1
    return count
