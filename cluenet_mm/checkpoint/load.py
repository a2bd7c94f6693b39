"""What a checkpoint holds, and whether it fits a model."""

import os
import re
from collections.abc import Mapping
from functools import reduce
from itertools import chain
from math import isclose
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.optim import Optimizer

from .safe import CheckpointError, MapLocation, read
from .schemes import SCHEMES, checkpoint_file

# What PendingValidationHook writes, and a resume asks for.
VALIDATION_RECORD = "last_validation"
_SHOWN = 5
_BACKBONE = "backbone."
# PyTorch 0.4 did not save this counter, and nothing depends on it.
_COUNTER = "num_batches_tracked"
_MAPPINGS = ("state_dict", "meta", "meta.options", "meta.dataset_meta")
_CLASSES = ("meta.dataset_meta.classes", "meta.dataset_meta.CLASSES", "meta.CLASSES")
_RUN = ("meta", "message_hub", "optimizer")


# --- loading ----------------------------------------------------------------------


def load_checkpoint(
    address: str | os.PathLike, map_location: MapLocation = "cpu", mmap: bool = False
) -> dict[str, Any]:
    """Load a checkpoint without running any code that it contains.

    Args:
        address: Local file as written by MMEngine or ``torch.save``, or an address that
            :func:`~cluenet_mm.checkpoint.checkpoint_file` knows, such as
            ``cluenet_mm://NAME`` or a link.
        map_location: Where tensors go, as in :func:`torch.load`.
        mmap: Whether tensors stay in the file until they are used, for a look at the
            rest; the checksums of the file are not verified then.

    Returns:
        The dictionary in the file. NumPy values come back as such, paths as pure
        paths, and ``HistoryBuffer`` with MMEngine's own statistics methods. Published
        weights, which are kept in half precision, come back in fp32.

    Raises:
        MissingCheckpointError: There is no such file; a FileNotFoundError, too.
        CheckpointError: The file is empty, cut short, damaged, no checkpoint, has a
            part of a wrong type, or holds an object that is not on the allow-list. The
            message names the file.
    """
    path = checkpoint_file(address)
    try:
        checkpoint = read(path, map_location, mmap)
    except CheckpointError:
        # Not a web page for ever, where a link gave one; a hash was verified before.
        if "://" in os.fspath(address) and path.parent.name == "cluenet_mm":
            path.unlink(missing_ok=True)
        raise
    _check_parts(checkpoint, address)
    if "published" in checkpoint.get("meta", {}):
        weights = checkpoint.get("state_dict", {})
        for name, value in weights.items():
            if isinstance(value, Tensor) and value.dtype == torch.float16:
                weights[name] = value.float()
    return checkpoint


def register_safe_loader() -> None:
    """Let MMEngine load every checkpoint of this process with :func:`load_checkpoint`.

    This covers ``load_from``, resuming and ``init_cfg=dict(type='Pretrained')``, for
    files and for all addresses of ``SCHEMES``. Calling it again changes nothing.
    """
    for prefix in ("", *(f"{scheme}://" for scheme in SCHEMES)):
        CheckpointLoader.register_scheme(prefix, load_from_cluenet_mm, force=True)


# MMEngine logs a loader's name from the eleventh character on, hence `load_from_`.
def load_from_cluenet_mm(filename: str, map_location: MapLocation = None) -> dict:
    """Load for MMEngine; see :func:`load_checkpoint`."""
    return load_checkpoint(filename, map_location)


# --- parts ------------------------------------------------------------------------


def _check_parts(checkpoint: Mapping, source: str | os.PathLike) -> None:
    """Refuse a checkpoint whose parts are not what MMEngine writes."""
    for part in _MAPPINGS:
        value = _part(checkpoint, part, {})
        unknown = part == "meta.dataset_meta" and value is None
        if not (unknown or isinstance(value, Mapping)):
            raise _wrong_part(source, part, value, "a dictionary")
    for name in checkpoint.get("state_dict", {}):
        if not isinstance(name, str):
            raise _wrong_part(source, "a name in state_dict", name, "a string")
    for part in _CLASSES:
        value = _part(checkpoint, part)
        if value is not None and not isinstance(value, list | tuple):
            raise _wrong_part(source, part, value, "a list of names")


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
    for part in ("meta.epoch", "meta.iter"):
        value = _part(checkpoint, part)
        if not isinstance(value, int) or value < 0:
            raise _wrong_part(source, part, value, "a number from 0")
    seed = _part(checkpoint, "meta.seed")
    if seed is not None and not isinstance(seed, int):
        raise _wrong_part(source, "meta.seed", seed, "a number")
    for part in ("message_hub", "optimizer"):
        if not isinstance(checkpoint[part], Mapping):
            raise _wrong_part(source, part, checkpoint[part], "a dictionary")
    schedulers = checkpoint.get("param_schedulers", [])
    if isinstance(schedulers, Mapping):  # of several optimizers, by name
        schedulers = list(chain.from_iterable(schedulers.values()))
    whole = isinstance(schedulers, list) and all(
        isinstance(state, Mapping) and "last_step" in state for state in schedulers
    )
    if not whole:
        raise _wrong_part(
            source, "param_schedulers", schedulers, "the states of schedulers"
        )
    for state in _optimizers(checkpoint["optimizer"]):
        if not isinstance(state, Mapping) or "param_groups" not in state:
            raise _wrong_part(source, "optimizer", state, "the state of an optimizer")


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


def _part(checkpoint: Mapping, name: str, default: Any = None) -> Any:
    """A part by its path with dots; what it lies in has been checked."""
    *folders, last = name.split(".")
    inner = reduce(lambda node, key: node.get(key) or {}, folders, checkpoint)
    return inner.get(last, default)


def _wrong_part(
    source: str | os.PathLike, part: str, value: object, expected: str
) -> CheckpointError:
    shown = repr(value)
    if isinstance(value, list | dict) or len(shown) > 40:
        shown = f"a {type(value).__name__}"
    return CheckpointError(
        f"cannot use checkpoint {source}: {part} is {shown}, not {expected}. Use "
        "another checkpoint."
    )


def dataset_meta(checkpoint: Mapping) -> dict[str, Any]:
    """What a checkpoint says of its dataset.

    Args:
        checkpoint: A loaded checkpoint of MMEngine, or of an OpenMMLab before it.

    Returns:
        ``classes`` and ``palette``, as far as they are known.
    """
    meta = checkpoint.get("meta") or {}
    saved = meta.get("dataset_meta") or {"classes": meta.get("CLASSES")}
    return {
        key.lower(): value
        for key, value in saved.items()
        if key.lower() in ("classes", "palette") and value is not None
    }


# --- do these weights fit? --------------------------------------------------------


def load_weights(
    model: nn.Module,
    checkpoint: Mapping,
    source: str | os.PathLike = "",
    *,
    prefix: str = "",
    allow_missing: tuple[str, ...] = (),
    allow_unexpected: tuple[str, ...] = (),
    partial: bool = False,
) -> None:
    """Give a model the weights of a checkpoint; see :func:`check_weights`.

    Raises:
        CheckpointError: They do not fit; the model is left as it was.
    """
    weights = check_weights(
        model,
        checkpoint,
        source,
        prefix=prefix,
        allow_missing=allow_missing,
        allow_unexpected=allow_unexpected,
        partial=partial,
    )
    model.load_state_dict(weights, strict=False)


def check_weights(
    model: nn.Module,
    checkpoint: Mapping,
    source: str | os.PathLike = "",
    *,
    prefix: str = "",
    allow_missing: tuple[str, ...] = (),
    allow_unexpected: tuple[str, ...] = (),
    partial: bool = False,
) -> dict[str, Tensor]:
    """Refuse weights that are not those of a model.

    Beside names and shapes, the options of the backbone are compared that converted
    weights ask for and that no shape shows (``meta['options']``), and every tensor must
    be one that a network can run with: dense, finite, floating point where the model
    has such numbers.

    Args:
        model: The model, or the backbone itself.
        checkpoint: A loaded checkpoint, or a bare state dict. ``module.`` of
            data-parallel training is ignored.
        source: Where it came from, for the error.
        prefix: Only names that begin so are looked at, without it.
        allow_missing: Beginnings of names that the checkpoint may lack.
        allow_unexpected: Beginnings of names that the model may lack.
        partial: The weights are to start from: only the backbone must be there, without
            its output norms, or any weight of a model that has no backbone. A name in
            ``allow_missing`` may have another shape, too.

    Returns:
        Those that fit, by the names of the model.

    Raises:
        CheckpointError: They do not fit; names the first mismatches and what to do.
    """
    where = f"checkpoint {source}" if source else "the checkpoint"
    if prefix:
        where += f", names behind {prefix!r}"
    wanted, found = model.state_dict(), _weights(checkpoint, prefix)
    same = {
        name: value
        for name, value in found.items()
        if name in wanted and value.shape == wanted[name].shape
    }
    missing = [
        name
        for name in wanted
        if name not in found
        and not name.startswith(allow_missing)
        and not name.endswith(_COUNTER)
    ]
    unexpected = [
        name
        for name in found
        if name not in wanted and not name.startswith(allow_unexpected)
    ]
    differing = [name for name in wanted if name in found and name not in same]
    cure = "give the config that the checkpoint was trained with"
    if missing and all(_BACKBONE + name in found for name in missing):
        cure = f"set prefix={_BACKBONE!r} in init_cfg: they are those of a whole model"
    if partial and any(not name.endswith(_COUNTER) for name in same):
        missing, differing = (
            [
                name
                for name in names
                if re.match(r"backbone\.(?!norm\d+\.)", name)
                and not name.startswith(allow_missing)
            ]
            for names in (missing, differing)
        )
        unexpected = []
        cure = (
            "give weights of this backbone; if the rest of it shall begin at random, "
            "write custom_hooks = [dict(type='cluenet_mm.StrictLoadHook', "
            "partial=True, allow_missing=['backbone.'])] into the config"
        )
    shapes = [
        f"{name} {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in differing
    ]
    faults = [
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}"
        + (", ..." if len(names) > _SHOWN else "")
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
        )
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{where}: the weights do not fit the model of this config "
            f"({'; '.join(faults)}); {cure}"
        )
    _check_options(model, checkpoint, where)
    for name, value in same.items():
        if fault := _value_fault(value, wanted[name]):
            raise CheckpointError(
                f"{where}: {name} {fault}, and the network cannot run with it; use an "
                "older checkpoint, or save it again"
            )
    return same


def _weights(checkpoint: Mapping, prefix: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint whose names begin so, without that beginning."""
    return {
        name.removeprefix(prefix).removeprefix("module."): value
        for name, value in checkpoint.get("state_dict", checkpoint).items()
        if isinstance(value, Tensor) and name.startswith(prefix)
    }


def _check_options(model: nn.Module, checkpoint: Mapping, where: str) -> None:
    backbone = getattr(model, "backbone", model)
    wrong = [
        f"{name}={value!r} (the model has {getattr(backbone, name, None)!r})"
        for name, value in _part(checkpoint, "meta.options", {}).items()
        if getattr(backbone, name, None) != value
    ]
    if wrong:
        raise CheckpointError(
            f"{where}: these weights need {', '.join(wrong)}: set it in the backbone's "
            "config"
        )


def _value_fault(value: Tensor, wanted: Tensor) -> str:
    """Why a network cannot run with a tensor in the place of another."""
    if value.layout != torch.strided or value.is_quantized:
        return "is no dense tensor"
    if wanted.is_floating_point() and not value.is_floating_point():
        return f"is {value.dtype}, not {wanted.dtype}"
    if not value.isfinite().all():
        bad = int((~value.isfinite()).sum())
        return f"is not finite ({bad} of {value.numel()} numbers)"
    return ""


# --- the newest of a run ----------------------------------------------------------


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
