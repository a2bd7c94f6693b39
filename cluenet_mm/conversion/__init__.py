"""Weights of the official releases, renamed for our classifiers.

A release's file is read safely, its architecture is read off the shapes, and every
parameter of the ``ImageClassifier`` that our configs build with it must be met by
exactly one official parameter of the same size.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .cluenet import CLUENET_FAMILY
from .reading import raise_if_any
from .region import COC_FAMILY, FEC_FAMILY

FAMILIES = {"cluenet": CLUENET_FAMILY, "coc": COC_FAMILY, "fec": FEC_FAMILY}


def convert_file(
    source: str | Path,
    target: str | Path,
    family: str,
    num_heads: tuple[int, ...] | None = None,
    backbone_only: bool = False,
) -> dict:
    """Convert a released checkpoint file.

    Args:
        source: What the release saved: a dict with ``model_state_dict``, ``state_dict``
            or ``model``, or a bare state dict.
        target: File to write, ``{'state_dict': ..., 'meta': ...}``. It appears only
            once it is complete.
        family: A key of ``FAMILIES``.
        num_heads: Heads per stage, where the release's weights do not tell them and are
            of no variant that we know.
        backbone_only: Whether to leave the classifier out; what is left serves
            ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.

    Returns:
        The ``meta`` that was written: family, ``arch`` (a variant's name, or the
        dict that was inferred), ``options`` (arguments of the backbone that the weights
        need), classes and parameters.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        CheckpointError: If it is no readable checkpoint, or its keys do not fit.
    """
    official = find_state_dict(load_checkpoint(source), source)
    state_dict, meta = convert_state_dict(official, family, num_heads)
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
        or not all(isinstance(value, Tensor) for value in loaded.values())
    ):
        raise CheckpointError(
            f"{source} holds no state dict: expected a dict of tensors, or a dict with "
            "one under 'model_state_dict', 'state_dict' or 'model'"
        )
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def convert_state_dict(
    official: dict[str, Tensor],
    family: str,
    num_heads: tuple[int, ...] | None = None,
) -> tuple[dict[str, Tensor], dict]:
    """Rename an official state dict.

    Args:
        official: Official names and parameters.
        family: A key of ``FAMILIES``.
        num_heads: As for :func:`convert_file`.

    Returns:
        State dict of our ``ImageClassifier`` (``backbone.*``, ``head.fc.*``) and its
        ``meta``.

    Raises:
        CheckpointError: If a name is missing, unknown, or has another size.
    """
    reader = FAMILIES[family]
    arch = reader.infer_arch(official, num_heads)
    expected = _expected_shapes(reader.backbone, arch, official)
    names = {reader.official_name(name): name for name in expected}
    raise_if_any("is missing", names.keys() - official.keys())
    raise_if_any("matches nothing", official.keys() - names.keys() - reader.ignored)

    state_dict, wrong = {}, []
    for official_name, name in names.items():
        value, shape = official[official_name], expected[name]
        if value.numel() != shape.numel():
            wrong.append(f"{official_name} {tuple(value.shape)} for {tuple(shape)}")
            continue
        # The releases' 1x1 convolutions are our Linear layers.
        state_dict[name] = value.reshape(shape).clone()
    raise_if_any("has another size", wrong)

    meta = {
        "family": family,
        "arch": _variant(reader.backbone, arch),
        "options": reader.options(official),
        "num_classes": len(official["head.weight"]),
        "num_parameters": sum(value.numel() for value in state_dict.values()),
    }
    return state_dict, meta


def _expected_shapes(
    backbone: type[nn.Module], arch: dict, official: dict[str, Tensor]
) -> dict[str, torch.Size]:
    """Names and shapes of our classifier of this architecture."""
    if "head.weight" not in official:
        raise_if_any("is missing", ["head.weight"])
    with torch.device("meta"):
        model = backbone(arch)
        head = nn.Linear(*reversed(official["head.weight"].shape))
    shapes = {f"backbone.{k}": v.shape for k, v in model.state_dict().items()}
    return shapes | {f"head.fc.{k}": v.shape for k, v in head.state_dict().items()}


def _variant(backbone: type[nn.Module], arch: dict) -> str | dict:
    for name, row in backbone.arch_settings.items():
        if row == arch:
            return name
    return arch
