"""Train a model of any task: builds MMEngine's runner from a config and runs it."""

import argparse
import shlex
import signal
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from cluenet_mm.building import BuildError, building
from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.cli import add_run_arguments, fail, parse_arguments
from cluenet_mm.data_errors import DataError
from cluenet_mm.datasets.check import refuse_unusable
from cluenet_mm.files import WriteError
from cluenet_mm.guard import exit_status, interruptible, run_tool
from cluenet_mm.hooks import PendingValidationHook, StrictLoadHook
from cluenet_mm.runner import (
    build_runner,
    check_amp,
    check_checkpoint,
    load_config,
    set_resume,
    use_amp,
)
from cluenet_mm.summary import results, summary
from cluenet_mm.training.distributed import finish, say


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path or name of a config")
    add_run_arguments(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue from this checkpoint; without a path, from the newest one in "
        "the work dir, or start from the beginning if there is none",
    )
    parser.add_argument(
        "--amp",
        action="store_true",
        help="mixed precision: float16 on a GPU, bfloat16 on a CPU",
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate with the total batch size",
    )
    parser.add_argument(
        "--no-validate", action="store_true", help="do not evaluate while training"
    )
    return parse_arguments(parser)


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write the switches of the command line into the config."""
    for name in ("train_dataloader", "train_cfg", "optim_wrapper"):
        if not cfg.get(name):
            raise ValueError(
                f"cannot train with config {args.config}: it has no {name}"
            )
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_amp(cfg)
    check_amp(cfg)
    if args.auto_scale_lr:
        if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
            raise ValueError(
                f"cannot use --auto-scale-lr: config {args.config} has no "
                "auto_scale_lr = dict(base_batch_size=...)"
            )
        cfg.auto_scale_lr.enable = True
    saving = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    if saving.get("max_keep_ckpts") == 1:
        say(
            "Warning: with max_keep_ckpts=1 the last checkpoint is deleted before the "
            "next one is written; 2 leaves one to resume from after a crash"
        )


def next_command(saved: bool) -> str:
    """The command that continues after an interruption.

    Args:
        saved: Whether this process wrote a checkpoint to continue from; otherwise the
            same command starts again.
    """
    words = ["python", *sys.orig_argv[1:]]
    if not saved:
        return shlex.join(words)
    if "--resume" in words:
        at = words.index("--resume")
        value = words[at + 1 : at + 2]
        end = at + 2 if value and not value[0].startswith("-") else at + 1
        words[at:end] = []
    words = [word for word in words if not word.startswith("--resume=")]
    return shlex.join([*words, "--resume"])


def last_save(work_dir: str) -> int | None:
    """When a checkpoint was last written; None if there is none."""
    pointer = Path(work_dir, "last_checkpoint")
    return pointer.stat().st_mtime_ns if pointer.is_file() else None


def last_metrics(runner: Runner) -> dict[str, float]:
    """What the last validation found; nothing without one."""
    scalars = runner.message_hub.log_scalars
    found = {
        name.removeprefix("val/"): scalar.current()
        for name, scalar in scalars.items()
        if name.startswith("val/")
    }
    return {k: v for k, v in found.items() if k not in ("time", "data_time")}


def train(cfg: Config, distributed: bool) -> int:
    """Train and return the exit status."""
    runner, before = None, last_save(cfg.work_dir)
    try:
        with interruptible():
            runner = build_runner(cfg, "train", "val")
            if not any(isinstance(hook, StrictLoadHook) for hook in runner.hooks):
                runner.register_hook(StrictLoadHook(partial=True))
            runner.register_hook(PendingValidationHook())
            say(summary(runner, "train", "val"))
            with building(cfg):
                runner.train()
        if runner.val_loop is not None and (found := last_metrics(runner)):
            say(results("Last validation", found))
    except (BuildError, CheckpointError, DataError, WriteError) as error:
        fail(error)
    except KeyboardInterrupt as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would cut this
        where = "before the first epoch"
        if runner is not None and "epoch" in runner.message_hub.runtime_info:
            where = f"in epoch {runner.epoch + 1}, iteration {runner.iter + 1}"
        saved = last_save(cfg.work_dir) != before
        command = next_command(saved)
        if distributed:  # by a launcher whose command is not known here
            command = "the same command" + (" and --resume" if saved else "")
        say(f"\nInterrupted {where}; continue with: {command}")
        return exit_status(error)
    return 0


def main() -> int:
    """Run the script and return its exit status."""
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
        apply_options(cfg, args)
        unfinished = set_resume(cfg, args.resume)
        if cfg.get("load_from"):
            check_checkpoint(cfg.load_from)
        if unfinished:
            for line in refuse_unusable(cfg, "train", "val"):
                say(f"Not checked: {line}")
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    status = train(cfg, args.launcher != "none") if unfinished else 0
    if status == 0:
        finish()
    return status


if __name__ == "__main__":
    run_tool(main)
