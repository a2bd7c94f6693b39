"""Whether weights fit a model."""

import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .load import part
from .safe import CheckpointError

_SHOWN = 5
_BACKBONE = "backbone."
# PyTorch 0.4 did not save this counter, and nothing depends on it.
_COUNTER = "num_batches_tracked"


def load_weights(
    model: nn.Module,
    checkpoint: Mapping,
    source: str | os.PathLike = "",
    **options: Any,
) -> None:
    """Give a model weights; arguments as for :func:`check_weights`.

    Raises:
        CheckpointError: They do not fit; the model is left as it was.
    """
    weights = check_weights(model, checkpoint, source, **options)
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
        name.removeprefix("module.").removeprefix(prefix): value
        for name, value in checkpoint.get("state_dict", checkpoint).items()
        if isinstance(value, Tensor) and name.removeprefix("module.").startswith(prefix)
    }


def _check_options(model: nn.Module, checkpoint: Mapping, where: str) -> None:
    backbone = getattr(model, "backbone", model)
    wrong = [
        f"{name}={value!r} (the model has {getattr(backbone, name, None)!r})"
        for name, value in part(checkpoint, "meta.options", {}).items()
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
    wide = value.float() if value.element_size() == 1 else value  # float8 has no kernel
    finite = wide.isfinite()
    if not finite.all():
        bad = int((~finite).sum())
        return f"is not finite ({bad} of {value.numel()} numbers)"
    return ""
