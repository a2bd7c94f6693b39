"""Weights of the official releases, renamed for our classifiers.

A release's file is read safely, and the architecture is the one whose classifier has
exactly the parameters of the file, name by name and size by size.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .names import FAMILIES, Family

__all__ = ["FAMILIES", "convert_file", "convert_state_dict", "find_state_dict"]

_SHOWN = 6


def convert_file(
    source: str | Path,
    target: str | Path,
    family: str,
    arch: str | dict | None = None,
    backbone_only: bool = False,
) -> dict:
    """Convert a released checkpoint file.

    Args:
        source: What the release saved: a dict with ``model_state_dict``, ``state_dict``
            or ``model``, or a bare state dict.
        target: File to write, ``{'state_dict': ..., 'meta': ...}``. It appears only
            once it is complete.
        family: A key of ``FAMILIES``.
        arch: See :func:`convert_state_dict`.
        backbone_only: Whether to leave the classifier out; what is left serves
            ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.

    Returns:
        The ``meta`` that was written: family, ``arch``, ``options`` (arguments of the
        backbone that the weights need), classes and parameters.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        CheckpointError: If it is not a readable checkpoint, or its keys do not fit.
    """
    official = find_state_dict(load_checkpoint(source), source)
    state_dict, meta = convert_state_dict(official, family, arch)
    if backbone_only:
        state_dict = {k: v for k, v in state_dict.items() if k.startswith("backbone.")}
        meta["num_classes"] = None
        meta["num_parameters"] = sum(value.numel() for value in state_dict.values())
    save_checkpoint({"state_dict": state_dict, "meta": meta}, target)
    return meta


def find_state_dict(loaded: object, source: str | Path) -> dict[str, Tensor]:
    """Find the state dict in what a release saved.

    Args:
        loaded: The unpickled object.
        source: Its file, for the error.

    Returns:
        Names and tensors, without the ``module.`` of data-parallel training.

    Raises:
        CheckpointError: If there is none.
    """
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(name, str) for name in loaded)
        or not all(isinstance(value, Tensor) for value in loaded.values())
    ):
        raise CheckpointError(
            f"{source} holds no state dict: expected a dict of tensors, or a dict with "
            "one under 'model_state_dict', 'state_dict' or 'model'"
        )
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def convert_state_dict(
    official: dict[str, Tensor], family: str, arch: str | dict | None = None
) -> tuple[dict[str, Tensor], dict]:
    """Rename an official state dict.

    Args:
        official: Official names and parameters.
        family: A key of ``FAMILIES``.
        arch: ``arch`` of the backbone; by default each row of its ``arch_settings`` is
            tried.

    Returns:
        State dict of our ``ImageClassifier`` (``backbone.*``, ``head.fc.*``) and its
        ``meta``.

    Raises:
        CheckpointError: If a name is missing, unknown, or has another size; with the
            mismatches of the closest architecture.
    """
    reader = FAMILIES[family]
    closest, faults = arch, None
    for row in [arch] if arch is not None else reader.backbone.arch_settings:
        shapes = _shapes(reader.backbone, row, official)
        found = _faults(reader, shapes, official)
        if faults is None or sum(map(len, found.values())) < sum(
            map(len, faults.values())
        ):
            closest, faults, best = row, found, shapes
    if any(faults.values()):
        raise CheckpointError(
            f"the checkpoint does not fit arch {closest!r} of {family}: "
            f"{'; '.join(_shown(*fault) for fault in faults.items() if fault[1])}; "
            "check that it is a classification checkpoint of the family that --arch "
            "names, and give --config for weights of another size"
        )
    # The releases' 1x1 convolutions are our Linear layers.
    state_dict = {
        name: official[reader.official_name(name)].reshape(shape).clone()
        for name, shape in best.items()
    }
    return state_dict, {
        "family": family,
        "arch": closest,
        "options": reader.options(official),
        "num_classes": len(official["head.weight"]),
        "num_parameters": sum(value.numel() for value in state_dict.values()),
    }


def _shapes(
    backbone: type[nn.Module], arch: str | dict, official: dict[str, Tensor]
) -> dict[str, torch.Size]:
    """Names and shapes of our classifier of this architecture."""
    num_classes = len(official.get("head.weight", [0]))
    with torch.device("meta"):
        model = backbone(arch)
        last = max(int(n[4]) for n, _ in model.named_children() if n[:4] == "norm")
        dims = getattr(model, f"norm{last}").weight.numel()
        head = nn.Linear(dims, num_classes)
    shapes = {f"backbone.{k}": v.shape for k, v in model.state_dict().items()}
    return shapes | {f"head.fc.{k}": v.shape for k, v in head.state_dict().items()}


def _faults(
    reader: Family, shapes: dict[str, torch.Size], official: dict[str, Tensor]
) -> dict[str, list[str]]:
    """What does not fit, by kind."""
    names = {reader.official_name(name): name for name in shapes}
    wrong = [
        f"{theirs} {tuple(official[theirs].shape)} for {tuple(shapes[ours])}"
        for theirs, ours in names.items()
        if theirs in official
        and _squeezed(official[theirs].shape) != _squeezed(shapes[ours])
    ]
    return {
        "is missing": sorted(names.keys() - official.keys()),
        "matches nothing": sorted(official.keys() - names.keys() - reader.ignored),
        "has another size": wrong,
    }


def _squeezed(shape: torch.Size) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _shown(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind}: {', '.join(names[:_SHOWN])}{more}"
