"""From a config to MMEngine's runner: processes, mixed precision, resuming."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from .building import BuildError, building
from .checkpoint import (
    CheckpointError,
    check_resume,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    register_atomic_writer,
)
from .checkpoint.resume import is_validated, run_checkpoints
from .config import default_work_dir, read_config, type_name
from .files import check_writable
from .inference.model import build_model
from .terminal import TerminalRunner
from .training.distributed import say, setup_launcher

__all__ = [
    "BuildError",
    "build_runner",
    "check_amp",
    "check_checkpoint",
    "load_config",
    "prepare_process",
    "set_resume",
    "use_amp",
]

# Optimizer wrappers and their twins with mixed precision.
AMP_WRAPPERS = {
    "OptimWrapper": "AmpOptimWrapper",
    "GuardedOptimWrapper": "cluenet_mm.GuardedAmpOptimWrapper",
}


def load_config(
    name: str, options: dict, work_dir: str | None = None, launcher: str = "none"
) -> Config:
    """Read the config of a run, and prepare this process for it.

    Args:
        name: Path, or name of a config of this package.
        options: What ``--cfg-options`` says.
        work_dir: Folder for logs and checkpoints; by default the config's, else
            :func:`~cluenet_mm.config.default_work_dir`.
        launcher: ``"none"``, ``"pytorch"`` (torchrun), ``"slurm"`` or ``"mpi"``.

    Returns:
        The config, with ``work_dir`` and ``launcher`` set.

    Raises:
        FileNotFoundError: No such config.
        ValueError: It is faulty, its work dir cannot be written, or the launcher cannot
            be used here.
    """
    cfg = read_config(name, options)
    cfg.work_dir = str(work_dir or cfg.get("work_dir") or default_work_dir(cfg))
    check_writable(cfg.work_dir, folder=True)
    prepare_process(cfg, launcher)
    return cfg


def prepare_process(cfg: Config, launcher: str = "none") -> None:
    """Set what holds for the whole process, and that no config shows.

    MMEngine writes files atomically; without a GPU, several processes are joined by
    gloo.

    Args:
        cfg: Its launcher is set, and what keeps several processes from a CPU changed.
        launcher: See :func:`load_config`.

    Raises:
        ValueError: The launcher cannot be used here.
    """
    register_atomic_writer()
    setup_launcher(cfg, launcher)


def check_checkpoint(checkpoint: str) -> None:
    """Refuse a checkpoint that is neither a link nor a file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not text.
    """
    if not isinstance(checkpoint, str):
        raise ValueError(f"load_from is {checkpoint!r}: give a path or a link")
    if "://" not in checkpoint and not Path(checkpoint).expanduser().is_file():
        raise FileNotFoundError(f"checkpoint {checkpoint} does not exist")


def build_runner(cfg: Config, *phases: str) -> Runner:
    """Build MMEngine's runner, or the one that ``runner_type`` of the config names.

    MMEngine's has the terminal of :mod:`cluenet_mm.terminal`.

    Args:
        cfg: Config.
        phases: Which of ``"train"``, ``"val"`` and ``"test"`` will run; their data
            sets, metrics and optimizer are built, too.

    Raises:
        BuildError: A part cannot be built; the message says which, and why.
    """
    _check_flexible(cfg)
    with building(cfg):
        own = "runner_type" in cfg
        runner = RUNNERS.build(cfg) if own else TerminalRunner.from_cfg(cfg)
        for phase in phases:
            getattr(runner, f"{phase}_loop")
        if "train" in phases and isinstance(runner, Runner):  # FlexibleRunner has none
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    _check_channels(cfg.get("model") or {}, runner.model)
    return runner


def _check_flexible(cfg: Config) -> None:
    """Refuse checkpoints that name a wrong epoch.

    After a validation CheckpointHook saves anew, with the epoch that it means;
    FlexibleRunner of MMEngine 0.10.7 writes the next one in its place.

    Raises:
        BuildError: A run would be resumed an epoch too late.
    """
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    if cfg.get("runner_type") == "FlexibleRunner" and hook.get("save_best"):
        raise BuildError(
            "cannot save the best checkpoint with FlexibleRunner: the others would "
            "name a wrong epoch. Set default_hooks.checkpoint.save_best=None"
        )


def _check_channels(settings: Mapping, model: nn.Module) -> None:
    """Refuse a neck, or heads without one, that expect the maps of another backbone.

    Raises:
        BuildError: Names the setting and its value.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    found = getattr(getattr(model, "backbone", None), "out_channels", None)
    if not isinstance(found, tuple):  # not a backbone of this package
        return
    parts = {"neck": settings.get("neck") or {}}
    if "in_channels" not in parts["neck"]:
        heads = ("decode_head", "auxiliary_head", "head")
        parts = {name: settings.get(name) for name in heads}
    for name, part in parts.items():
        wanted = part.get("in_channels") if isinstance(part, Mapping) else None
        given = list(found)
        if name != "neck" and isinstance(part, Mapping):
            # A head may choose by itself; settings without a choice mean the last map.
            head = getattr(model, name, None)
            chosen = getattr(head, "in_index", part.get("in_index", -1))
            several = isinstance(chosen, list | tuple)
            chosen = [i for i in (chosen if several else [chosen]) if i < len(found)]
            given = [found[i] for i in chosen]
        wanted = [wanted] if isinstance(wanted, int) else wanted
        if wanted and list(wanted) != given:
            raise BuildError(
                f"cannot use model.{name}: it is for maps of {list(wanted)} channels, "
                f"and the backbone gives {given}. Set model.{name}.in_channels, or "
                "out_indices of the backbone"
            )


def use_amp(cfg: Config) -> None:
    """Exchange the optimizer wrapper for its twin with mixed precision.

    Raises:
        ValueError: It has none.
    """
    if _has_amp(cfg):
        return
    wrapper = cfg.optim_wrapper
    kind = type_name(wrapper.get("type", "OptimWrapper"))
    if kind not in AMP_WRAPPERS:
        raise ValueError(
            f"cannot use --amp with the optimizer wrapper {kind}: it supports "
            f"{', '.join(AMP_WRAPPERS)}"
        )
    wrapper.type = AMP_WRAPPERS[kind]
    wrapper.setdefault("loss_scale", "dynamic")


def check_amp(cfg: Config) -> None:
    """Refuse mixed precision of a two-stage detector on a CPU.

    Other detectors call MMCV's NMS in evaluations alone, which run in float32.

    Raises:
        ValueError: That is what the config asks for.
    """
    if _has_amp(cfg) and get_device() == "cpu" and _has_roi_head(cfg.get("model")):
        raise ValueError(
            "cannot train a roi_head with mixed precision on a CPU: MMCV's NMS and "
            "RoIAlign do not support bfloat16 there. Leave out --amp (or the AMP "
            "wrapper in the config), or use a GPU"
        )


def _has_amp(cfg: Config) -> bool:
    """Whether the optimizer wrapper is one with mixed precision."""
    kind = type_name(cfg.optim_wrapper.get("type", "OptimWrapper"))
    return kind in map(type_name, AMP_WRAPPERS.values())


def _has_roi_head(model: object) -> bool:
    """Whether a model, or one that it wraps, has a stage on regions of interest."""
    if not isinstance(model, dict):
        return False
    return bool(model.get("roi_head")) or any(map(_has_roi_head, model.values()))


def set_resume(cfg: Config, checkpoint: str | None) -> bool:
    """Point the config to the checkpoint to resume from.

    Args:
        cfg: Changed in place.
        checkpoint: A path or an address, ``"auto"``, or None for what ``resume`` and
            ``load_from`` of the config say, which is a new run by default.

    Returns:
        Whether there is anything left to train or to validate.

    Raises:
        CheckpointError: It cannot be read, holds no state of a run, or is that of a
            finished run of another network.
        FileNotFoundError: The checkpoint does not exist.
    """
    if checkpoint is None and cfg.get("resume"):
        checkpoint = cfg.get("load_from") or "auto"
    if checkpoint is None:
        return True
    path: str | Path | None = checkpoint
    if checkpoint == "auto":
        path = latest_checkpoint(cfg.work_dir)
        if path is None:
            say(f"No checkpoint in {cfg.work_dir}: training starts from the beginning.")
            return True
    try:
        state = load_checkpoint(path, mmap=True)  # the runner reads its tensors
    except (CheckpointError, FileNotFoundError) as error:
        raise CheckpointError(f"{error}.{_older_checkpoint(Path(path))}") from error
    check_resume(state, path)
    cfg.resume, cfg.load_from = True, str(path)
    # The data loaders are built before MMEngine reads the checkpoint's seed.
    randomness = cfg.setdefault("randomness", {})
    if randomness.get("seed") is None:
        randomness["seed"] = state["meta"].get("seed")
    for unit in ("epoch", "iter"):
        end, now = cfg.train_cfg.get(f"max_{unit}s"), state["meta"][unit]
        if end is not None and now >= end:
            if (
                now == end
                and cfg.get("val_cfg") is not None
                and now >= cfg.train_cfg.get("val_begin", 1)
                and not is_validated(path, cfg.work_dir, now)
            ):
                return True
            with building(cfg):
                load_weights(build_model(cfg), state, path)  # they must be its own
            say(f"Already finished: {path} is {unit} {now} of {end}.")
            return False
    return True


def _older_checkpoint(broken: Path) -> str:
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
