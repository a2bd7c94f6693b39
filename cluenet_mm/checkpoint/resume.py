"""What a run goes on from: its newest checkpoint, and whether that is whole."""

import os
import re
from collections.abc import Mapping
from itertools import chain
from math import isclose
from pathlib import Path

from torch.optim import Optimizer

from .load import load_checkpoint, part, wrong_part
from .safe import CheckpointError

# What PendingValidationHook writes, and a resume asks for.
VALIDATION_RECORD = "last_validation"
_RUN = ("meta", "message_hub", "optimizer")
_SHOWN = 5


def latest_checkpoint(work_dir: str | os.PathLike) -> Path | None:
    """Find the checkpoint that a run in ``work_dir`` wrote last.

    Args:
        work_dir: Folder of the run, with MMEngine's ``last_checkpoint`` file. It may
            have been moved since: the checkpoint is then looked for inside it.

    Returns:
        The file that ``last_checkpoint`` names; it is not opened, and one that has been
        deleted is named all the same. Where there is no ``last_checkpoint``, or one
        that names nothing, the newest epoch_*.pth or iter_*.pth that is whole. None
        where none was written yet.

    Raises:
        CheckpointError: ``last_checkpoint`` names nothing, or none of the files can be
            read, and so it is not known what the run has reached.
    """
    pointer = Path(work_dir, "last_checkpoint")
    named = pointer.read_bytes().strip() if pointer.is_file() else b""
    try:
        name = named.decode()
    except UnicodeDecodeError:
        name = ""
    if name and name.isprintable():
        beside = pointer.with_name(Path(name).name)
        return beside if beside.is_file() else Path(name)
    files = run_checkpoints(work_dir)
    for path in files:
        try:
            load_checkpoint(path)
        except CheckpointError:
            continue
        return path
    if not files and not named:
        return None
    fault = "no epoch_*.pth or iter_*.pth there is whole"
    if named:
        fault = f"{pointer} is damaged, and {fault}"
    raise CheckpointError(
        f"cannot find a checkpoint in {work_dir}: {fault}. Name the checkpoint, or "
        "give another work dir."
    )


def run_checkpoints(work_dir: str | os.PathLike) -> list[Path]:
    """The epoch_*.pth and iter_*.pth in a folder, those of the last step first."""
    found = {}
    for path in Path(work_dir).glob("*.pth"):
        if named := re.fullmatch(r"(epoch|iter)_(\d+)", path.stem):
            found[path] = (named[1], int(named[2]))
    newest = {kind: 0.0 for kind, _ in found.values()}
    for path, (kind, _) in found.items():
        newest[kind] = max(newest[kind], path.stat().st_mtime)
    return sorted(found, key=lambda p: (newest[found[p][0]], found[p]), reverse=True)


def is_validated(
    checkpoint: str | os.PathLike, work_dir: str | os.PathLike, step: int
) -> bool:
    """Whether the validation of a checkpoint is on record.

    Args:
        checkpoint: What a run is resumed from.
        work_dir: Folder of the run, for a checkpoint that lies elsewhere.
        step: Its epoch, or its iteration in an iteration-based run.
    """
    for folder in (Path(checkpoint).parent, Path(work_dir)):
        record = folder / VALIDATION_RECORD
        if record.is_file():
            return record.read_bytes().strip() == str(step).encode()
    return False


def check_resume(checkpoint: Mapping, source: str | os.PathLike) -> None:
    """Refuse a checkpoint that a run cannot go on from.

    Args:
        checkpoint: A loaded checkpoint.
        source: Where it came from, for the error.

    Raises:
        CheckpointError: It lacks the state of a run, or a part of it has a wrong type.
    """
    if not set(_RUN) <= checkpoint.keys():
        raise CheckpointError(
            f"checkpoint {source} holds weights without the state of a run: resume "
            "from an epoch_*.pth or iter_*.pth, or start from these weights with "
            f"--cfg-options load_from={source}"
        )
    for name in ("meta.epoch", "meta.iter"):
        value = part(checkpoint, name)
        if not isinstance(value, int) or value < 0:
            raise wrong_part(source, name, value, "a number from 0")
    seed = part(checkpoint, "meta.seed")
    if seed is not None and not isinstance(seed, int):
        raise wrong_part(source, "meta.seed", seed, "a number")
    for name in ("message_hub", "optimizer"):
        if not isinstance(checkpoint[name], Mapping):
            raise wrong_part(source, name, checkpoint[name], "a dictionary")
    schedulers = checkpoint.get("param_schedulers", [])
    if isinstance(schedulers, Mapping):  # of several optimizers, by name
        schedulers = list(chain.from_iterable(schedulers.values()))
    whole = isinstance(schedulers, list) and all(
        isinstance(state, Mapping) and "last_step" in state for state in schedulers
    )
    if not whole:
        raise wrong_part(
            source, "param_schedulers", schedulers, "the states of schedulers"
        )
    for state in _optimizers(checkpoint["optimizer"]):
        if not isinstance(state, Mapping) or "param_groups" not in state:
            raise wrong_part(source, "optimizer", state, "the state of an optimizer")


def check_optimizer(
    optimizer: Optimizer, checkpoint: Mapping, source: str | os.PathLike
) -> None:
    """Refuse a checkpoint with the optimizer of another model.

    Args:
        optimizer: That of the run.
        checkpoint: A checkpoint that :func:`check_resume` let pass.
        source: Where it came from, for the error.

    Raises:
        CheckpointError: The groups of parameters have other lengths.
    """
    groups = checkpoint["optimizer"].get("param_groups", ())
    saved = [len(group["params"]) for group in groups]
    wanted = [len(group["params"]) for group in optimizer.param_groups]
    if saved != wanted:
        raise CheckpointError(
            f"cannot resume from checkpoint {source}: its optimizer has groups of "
            f"{_lengths(saved)} parameters, that of the config {_lengths(wanted)}. "
            "Give the config that the checkpoint was trained with."
        )


def kept_rates(optimizer: Optimizer, checkpoint: Mapping) -> tuple[float, float] | None:
    """Learning rates that differ between a run and the checkpoint it goes on from.

    Args:
        optimizer: That of the run, after its schedulers were built.
        checkpoint: One that :func:`check_optimizer` let pass.

    Returns:
        The base rate of the first group that differs, in the checkpoint, whose state
        replaces the other, and in the run; None if there is none.
    """
    groups = checkpoint["optimizer"].get("param_groups", ())
    for saved, group in zip(groups, optimizer.param_groups, strict=True):
        kept, wanted = saved.get("initial_lr"), group.get("initial_lr")
        if None not in (kept, wanted) and not isclose(kept, wanted, rel_tol=1e-6):
            return kept, wanted
    return None


def _lengths(lengths: list[int]) -> str:
    shown = ", ".join(map(str, lengths[:_SHOWN]))
    return shown + (f", ... ({len(lengths)} groups)" if len(lengths) > _SHOWN else "")


def _optimizers(state: Mapping) -> list:
    """States of the optimizers in a checkpoint; MMEngine may have several, by name."""
    several = state and all(isinstance(value, Mapping) for value in state.values())
    return list(state.values()) if several else [state]
