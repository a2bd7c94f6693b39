"""Train a model of any task: builds MMEngine's runner from a config and runs it."""

import argparse
import shlex
import signal
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device

from cluenet_mm.checkpoint import (
    CheckpointError,
    check_resume,
    latest_checkpoint,
    load_checkpoint,
)
from cluenet_mm.checkpoint.load import run_checkpoints
from cluenet_mm.config_types import type_name
from cluenet_mm.engine import StrictLoadHook, build_model, load_weights
from cluenet_mm.engine.cli import (
    add_common_arguments,
    build_runner,
    building,
    check_exists,
    fail,
    is_first_process,
    load_config,
    parse_arguments,
)
from cluenet_mm.engine.distributed import finish

AMP_WRAPPERS = {
    "OptimWrapper": "AmpOptimWrapper",
    "GuardedOptimWrapper": "cluenet_mm.GuardedAmpOptimWrapper",
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path or name of a config")
    add_common_arguments(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from this checkpoint; alone or as 'auto', from the last one in "
        "the work dir, or from the beginning where there is none",
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
            raise ValueError(f"config {args.config} cannot train: it has no {name}")
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_amp(cfg)
    check_amp(cfg)
    if args.auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            raise ValueError(
                "--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in "
                f"config {args.config}"
            )
        cfg.auto_scale_lr.enable = True
    saving = cfg.get("default_hooks", {}).get("checkpoint") or {}
    if saving.get("max_keep_ckpts") == 1:
        say(
            "Warning: with max_keep_ckpts=1 the last checkpoint is deleted before the "
            "next one is written; 2 leaves one to resume from after a crash"
        )


def has_amp(cfg: Config) -> bool:
    """Whether the optimiser wrapper is one with mixed precision."""
    kind = type_name(cfg.optim_wrapper.get("type", "OptimWrapper"))
    return kind in map(type_name, AMP_WRAPPERS.values())


def use_amp(cfg: Config) -> None:
    """Exchange the optimiser wrapper for its twin with mixed precision."""
    if has_amp(cfg):
        return
    wrapper = cfg.optim_wrapper
    kind = type_name(wrapper.get("type", "OptimWrapper"))
    if kind not in AMP_WRAPPERS:
        raise ValueError(
            f"--amp knows the optimiser wrappers {', '.join(AMP_WRAPPERS)}, not {kind}"
        )
    wrapper.type = AMP_WRAPPERS[kind]
    wrapper.setdefault("loss_scale", "dynamic")


def check_amp(cfg: Config) -> None:
    """Refuse mixed precision of a two-stage detector on a CPU.

    Other detectors call MMCV's NMS in evaluations alone, which run in float32.
    """
    if has_amp(cfg) and get_device() == "cpu" and has_roi_head(cfg.get("model")):
        raise ValueError(
            "mixed precision on a CPU is bfloat16, and MMCV's NMS and RoIAlign, which "
            "train the roi_head of this model, have no such kernel for CPUs; train "
            "without --amp (or AMP wrapper in the config), or on a GPU"
        )


def has_roi_head(model: object) -> bool:
    """Whether a model, or one that it wraps, has a stage on regions of interest."""
    if not isinstance(model, dict):
        return False
    return bool(model.get("roi_head")) or any(map(has_roi_head, model.values()))


def set_resume(cfg: Config, checkpoint: str | None) -> bool:
    """Point the config to the checkpoint to go on from.

    Args:
        cfg: Changed in place.
        checkpoint: A path, ``"auto"``, or None for a new run.

    Returns:
        Whether there is anything left to train.

    Raises:
        CheckpointError: It cannot be read, holds no state of a run, or is that of a
            finished run of another network.
        FileNotFoundError: There is no such checkpoint.
    """
    if checkpoint is None:
        return True
    path = Path(checkpoint)
    if checkpoint == "auto":
        path = latest_checkpoint(cfg.work_dir)
        if path is None:
            say(f"No checkpoint in {cfg.work_dir}: training starts from the beginning.")
            return True
    try:
        state = load_checkpoint(path, mmap=True)  # the runner reads its tensors
    except (CheckpointError, FileNotFoundError) as error:
        raise CheckpointError(f"{error}.{older_checkpoint(path)}") from error
    check_resume(state, path)
    cfg.resume, cfg.load_from = True, str(path)
    # The data loaders are built before MMEngine reads the checkpoint's seed.
    randomness = cfg.setdefault("randomness", {})
    if randomness.get("seed") is None:
        randomness["seed"] = state["meta"].get("seed")
    for unit in ("epoch", "iter"):
        end, now = cfg.train_cfg.get(f"max_{unit}s"), state["meta"][unit]
        if end is not None and now >= end:
            with building(cfg):
                load_weights(build_model(cfg), state, path)  # they must be its own
            say(f"Already finished: {path} is {unit} {now} of {end}.")
            return False
    return True


def older_checkpoint(broken: Path) -> str:
    """Advice on the newest readable checkpoint beside a broken one."""
    for path in run_checkpoints(broken.parent):
        if path.name == broken.name:
            continue
        try:
            load_checkpoint(path)
        except CheckpointError:
            continue
        return f" An older one is whole: go on with --resume {path}"
    return " There is no other checkpoint beside it"


def say(message: str) -> None:
    """Print on one of the processes."""
    if is_first_process():
        print(message, flush=True)


def next_command(saved: bool) -> str:
    """The command that goes on from an interruption.

    Args:
        saved: Whether this process wrote a checkpoint, from which it goes on; the same
            command begins again otherwise.
    """
    words = ["python", *sys.argv]
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


def train(cfg: Config, distributed: bool) -> int:
    """Train and return the exit status."""
    runner, before = None, last_save(cfg.work_dir)
    try:
        runner = build_runner(cfg, "train", "val")
        if not any(isinstance(hook, StrictLoadHook) for hook in runner.hooks):
            runner.register_hook(StrictLoadHook(partial=True))
        runner.train()
    except CheckpointError as error:
        fail(error)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would cut this
        where = "before the first epoch"
        if runner is not None and "epoch" in runner.message_hub.runtime_info:
            where = f"in epoch {runner.epoch + 1}, iteration {runner.iter + 1}"
        saved = last_save(cfg.work_dir) != before
        command = next_command(saved)
        if distributed:  # by a launcher whose command is not known here
            command = "the same command" + (" and --resume" if saved else "")
        say(f"\nInterrupted {where}; continue with: {command}")
        return 130
    return 0


def main() -> int:
    """Run the script and return its exit status."""
    args = parse_args()
    try:
        cfg = load_config(args)
        apply_options(cfg, args)
        unfinished = set_resume(cfg, args.resume)
        if cfg.get("load_from"):
            check_exists(cfg.load_from)
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        fail(error)
    status = train(cfg, args.launcher != "none") if unfinished else 0
    if status == 0:
        finish()
    return status


if __name__ == "__main__":
    sys.exit(main())
