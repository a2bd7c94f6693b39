"""What the command lines of the tools share."""

import argparse
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from cluenet_mm import config_path
from cluenet_mm.checkpoint import register_atomic_writer
from cluenet_mm.files import check_target
from cluenet_mm.memory import keep_free_memory
from cluenet_mm.package_data import config_name

from .distributed import setup_launcher
from .inference import innermost

MODULE = "<module>"  # how Python calls the code of a file outside of functions
# How wrong settings and missing or broken data make themselves felt.
BUILD_ERRORS = (AssertionError, KeyError, OSError, TypeError, ValueError)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that both scripts have."""
    parser.add_argument(
        "--work-dir",
        help="folder for logs and checkpoints (default: work_dir of the config, "
        "else ./work_dirs/<name of the config>, as in work_dirs/cluenet/cls_digits)",
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


def device(text: str) -> str:
    """Type of an option that names a device of this machine."""
    try:
        torch.empty(0, device=text)
    except (AssertionError, RuntimeError) as error:  # of a PyTorch without CUDA, too
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"no device {text!r} here: {reason}") from None
    return text


def output_file(text: str) -> Path:
    """Type of an option that names a file to write."""
    return _target(text, folder=False)


def output_folder(text: str) -> Path:
    """Type of an option that names a folder to write into."""
    return _target(text, folder=True)


def _target(text: str, folder: bool) -> Path:
    try:
        check_target(text, folder)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def load_config(args: argparse.Namespace) -> Config:
    """Load ``args.config`` with the common options applied, and start the launcher.

    From here on MMEngine writes files atomically.

    Args:
        args: With the attributes of :func:`add_common_arguments` and ``config``, a
            path or the name of a config of this package.

    Returns:
        The config, with ``work_dir`` and ``launcher`` set.

    Raises:
        FileNotFoundError: No such config.
        ValueError: It is faulty, its work dir cannot be written, or the launcher cannot
            be used here.
    """
    register_atomic_writer()
    cfg = read_config(args.config, args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or default_work_dir(cfg)
    check_target(cfg.work_dir, folder=True)
    setup_launcher(cfg, args.launcher)
    return cfg


def default_work_dir(cfg: Config) -> str:
    """A folder of its own for every config of this package, named like it.

    Families share file names. A config from elsewhere gets OpenMMLab's folder.
    """
    path = Path(cfg.filename)
    return str(Path("work_dirs", config_name(path) or path.name).with_suffix(""))


def read_config(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Open a config and override settings of it.

    Args:
        name: Path, or name of a config of this package.
        options: What ``--cfg-options`` says.

    Raises:
        FileNotFoundError: No such config.
        ValueError: It cannot be read, or has no place for the options; the message
            names the line.
    """
    path = find_config(name)
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is code, and may fail in every way
        frames = traceback.extract_tb((error.__cause__ or error).__traceback__)
        lines = [f"{f.filename}, line {f.lineno}" for f in frames if f.name == MODULE]
        where = f" ({lines[-1]})" if lines else ""
        raise ValueError(
            f"config {name} cannot be read: {_reason(error)}{where}"
        ) from error
    try:
        cfg.merge_from_dict(dict(options or {}))
    except BUILD_ERRORS as error:
        raise ValueError(
            f"--cfg-options do not fit config {name}: {_reason(error)}"
        ) from error
    return cfg


def _reason(error: Exception) -> str:
    """One line; of an import that failed, without MMEngine's list of the path."""
    if isinstance(error, ImportError) and error.__cause__:
        error = error.__cause__
    text = " ".join(str(error).replace("<unknown>, ", "").split())
    return f"{type(error).__name__}: {text}"


def reason_and_place(error: Exception) -> str:
    """An error and the line that raised it, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{_reason(error)} ({last.filename}, line {last.lineno})"


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


def check_exists(checkpoint: str) -> None:
    """Refuse a checkpoint that is neither a link nor a file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if "://" not in checkpoint and not Path(checkpoint).expanduser().is_file():
        raise FileNotFoundError(f"checkpoint {checkpoint} does not exist")


def build_runner(cfg: Config, *phases: str) -> Runner:
    """Build MMEngine's runner, or the one that ``runner_type`` of the config names.

    Args:
        cfg: Config.
        phases: Which of ``"train"``, ``"val"`` and ``"test"`` will run; their data
            sets, metrics and optimizer are built, too.
    """
    if not torch.cuda.is_available():
        keep_free_memory()
    with building(cfg):
        runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
        for phase in phases:
            getattr(runner, f"{phase}_loop")
        if "train" in phases and isinstance(runner, Runner):  # FlexibleRunner has none
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    return runner


@contextmanager
def building(cfg: Config) -> Iterator[None]:
    """End the script with one line where settings or data let no part be built."""
    try:
        yield
    except BUILD_ERRORS as error:
        fail(ValueError(_build_fault(cfg, error)))


def _build_fault(cfg: Config, error: Exception) -> str:
    """Which part could not be built, and why."""
    builders = [f.name for f in traceback.extract_tb(error.__traceback__)]
    phase = "".join(
        p for p in ("train", "val", "test") if f"build_{p}_loop" in builders
    )
    part, cure = "the runner", ""
    if "build_model" in builders:
        part = "the model"
    elif "build_optim_wrapper" in builders:
        # MMEngine does not say which type it does not know.
        part = f"the optimizer {cfg.optim_wrapper.get('optimizer')}"
    elif "build_evaluator" in builders:
        part = f"{phase}_evaluator"
    elif "build_dataloader" in builders:
        dataset = innermost(cfg[f"{phase}_dataloader"].dataset)
        named = [
            f" {k}={dataset[k]!r}" for k in ("data_root", "ann_file") if k in dataset
        ]
        part = f"the data set of {phase}_dataloader{','.join(named)}"
        if not isinstance(error, TypeError):  # which is about settings, not data
            name = config_name(cfg.filename) or cfg.filename
            cure = f"; tools/check_dataset.py {name} says more"
    return f"{part} cannot be built: {reason_and_place(error)}{cure}"


def is_first_process() -> bool:
    """Whether this process speaks for all, before or after the process group."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def fail(error: Exception) -> NoReturn:
    """End the script with status 1 and one line, from one of the processes."""
    raise SystemExit(f"error: {error}" if is_first_process() else 1)
