"""What the command lines of the tools share."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from cluenet_mm import config_path
from cluenet_mm.checkpoint import register_atomic_writer, register_safe_loader
from cluenet_mm.memory import keep_free_memory

from .distributed import setup_launcher


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that both scripts have."""
    parser.add_argument(
        "--work-dir",
        help="folder for logs and checkpoints (default: work_dir of the config, "
        "else ./work_dirs/<name of the config>)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="KEY=VALUE",
        help="override settings of the config, e.g. train_dataloader.batch_size=8",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how several processes are started (dist_*.sh and slurm_*.sh set it)",
    )


def parse_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; ``--cfg-options`` without ``=`` is a usage error."""
    try:
        return parser.parse_args()
    except ValueError:
        parser.error("argument --cfg-options: expected KEY=VALUE pairs")


def positive(text: str) -> int:
    """Type of an option that is an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def load_config(args: argparse.Namespace) -> Config:
    """Load ``args.config`` with the common options applied, and start the launcher.

    From here on MMEngine loads checkpoints safely and writes files atomically.

    Args:
        args: With the attributes of :func:`add_common_arguments` and ``config``, a
            path or the name of a config of this package.

    Returns:
        The config, with ``work_dir`` and ``launcher`` set.

    Raises:
        FileNotFoundError: No such config.
        ValueError: The launcher cannot be used here.
    """
    register_safe_loader()
    register_atomic_writer()
    path = find_config(args.config)
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = (
        args.work_dir or cfg.get("work_dir") or str(Path("work_dirs", path.stem))
    )
    setup_launcher(cfg, args.launcher)
    return cfg


def find_config(name: str) -> Path:
    """Path of a config that is given by its path or by its name in this package.

    Raises:
        FileNotFoundError: There is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    try:
        return config_path(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"config {name} is no file; {error}") from None


def build_runner(cfg: Config) -> Runner:
    """Build MMEngine's runner, or the one that ``runner_type`` of the config names."""
    if not torch.cuda.is_available():
        keep_free_memory()
    return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


def is_first_process() -> bool:
    """Whether this process speaks for all, before or after the process group."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def fail(error: Exception) -> NoReturn:
    """End the script with status 1 and one line, from one of the processes."""
    raise SystemExit(f"error: {error}" if is_first_process() else 1)
