"""Configs and the backbones that they describe, without weights or data."""

from copy import deepcopy
from inspect import signature
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..config_types import registered_type, type_name
from ..engine.cli import read_config
from ..ops import IMPLEMENTATIONS

LIBRARIES = ("mmpretrain", "mmdet", "mmseg")
# Sides of CIFAR and of the digits, whose configs do not resize.
SMALL_SIDE = 32


def open_config(name: str) -> Config:
    """Load a config.

    Args:
        name: A path, the name of a config of this package such as
            ``cluenet/cls_digits.py``, or ``mmpretrain::poolformer/...`` (``mmdet::``,
            ``mmseg::``) for one of OpenMMLab's.

    Raises:
        FileNotFoundError: No such config.
        ValueError: It cannot be read, or describes no model with a backbone.
    """
    library, separator, path = name.partition("::")
    if separator:
        if library not in LIBRARIES:  # MMEngine would try to install it
            known = ", ".join(f"{library}::" for library in LIBRARIES)
            raise FileNotFoundError(f"config {name}: the libraries are {known}")
        try:
            cfg = get_config(name)
        except (FileNotFoundError, ValueError):
            raise FileNotFoundError(f"{library} has no config {path}") from None
    else:
        cfg = read_config(name)
    if "backbone" not in cfg.get("model", {}):
        raise ValueError(f"config {name} describes no model with a backbone")
    return cfg


def build_model(model: dict, scope: str | None, impl: str | None = None) -> nn.Module:
    """Build a model or a backbone from its config; no weights are fetched.

    Args:
        model: Config of the model.
        scope: Default scope of the config: the library that resolves its types.
        impl: Implementation of the clustering primitives of the backbone; ``None``
            leaves the config's.

    Raises:
        ValueError: The implementation is unknown, or the backbone has no choice.
    """
    model = ConfigDict(deepcopy(model))
    if impl is not None:
        backbone = model.get("backbone", model)
        check_impl(backbone, scope, impl)
        backbone.impl = impl
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)


def check_impl(backbone: dict, scope: str | None, impl: str) -> None:
    """Refuse an implementation that is unknown or that the backbone cannot choose.

    Raises:
        ValueError: It cannot be chosen.
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(
            f"unknown impl {impl!r}; choose from {', '.join(IMPLEMENTATIONS)}"
        )
    if not has_impl(backbone, scope):
        raise ValueError(
            f"backbone {backbone['type']} has no impl to choose; leave {impl!r} out"
        )


def has_impl(backbone: dict, scope: str | None) -> bool:
    """Whether a backbone can choose the implementation of its primitives."""
    with MODELS.switch_scope_and_registry(scope) as registry:
        kind = registered_type(backbone, registry)
    if kind is None:
        raise ValueError(f"no registry knows the backbone {backbone['type']!r}")
    return "impl" in signature(kind).parameters


def image_shape(cfg: Config) -> tuple[int, int]:
    """Height and width of the images that the config tests with.

    Read off the last resizing step of its test pipeline; 32 x 32 where there is none,
    as for CIFAR and the digits.
    """
    dataset: dict[str, Any] = cfg.get("test_dataloader", {}).get("dataset", {})
    for step in reversed(dataset.get("pipeline", [])):
        size = step.get("crop_size", step.get("scale"))
        if type_name(step) in ("CenterCrop", "Resize") and size:
            # MMCV writes sizes as (width, height).
            return (size, size) if isinstance(size, int) else (size[1], size[0])
    return SMALL_SIDE, SMALL_SIDE
