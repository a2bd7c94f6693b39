"""What the parts of a config are.

The ``type`` of a part is a name, or in pure Python configs the class.
"""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from torch import nn

__all__ = [
    "PLACES",
    "image_shape",
    "inner_datasets",
    "metrics_of",
    "num_classes",
    "preprocessor_of",
    "resolve_type",
    "tested_dataset",
    "type_name",
    "with_type_name",
]

# Where the settings of a dataset say that its files are.
PLACES = ("data_root", "data_prefix", "ann_file")
# Side of CIFAR's images and of the digits, whose configs do not resize.
_SMALL_SIDE = 32
# Where the models of the three libraries keep what knows the classes, from the outside
# to the inside.
_HEADS = ("decode_head", "roi_head", "bbox_head", "head")


def type_name(part: Mapping | str | type) -> str:
    """Name of a class without packages and scopes.

    Args:
        part: What a config builds, with its ``type``; or that ``type`` itself.

    Examples:
        >>> type_name({"type": "cluenet_mm.CLUENet"}), type_name("CLUENet")
        ('CLUENet', 'CLUENet')
    """
    kind = part["type"] if isinstance(part, Mapping) else part
    return kind.rsplit(".", 1)[-1] if isinstance(kind, str) else kind.__name__


def resolve_type(part: Mapping, registry: Registry) -> Any:
    """What builds a part of a config: a class, as a rule.

    Returns:
        The ``type`` itself, or what the registry has by its name, None if nothing.
    """
    kind = part["type"]
    return registry.get(kind) if isinstance(kind, str) else kind


def with_type_name(part: Mapping, registry: Registry) -> dict:
    """A part of a config with a name as its ``type``, for what compares names.

    Returns:
        A copy. A class becomes its name, if that means this class in the default scope,
        else the path of its import, which registries understand too.
    """
    kind = part["type"]
    if not isinstance(kind, str):
        with registry.switch_scope_and_registry(None) as here:
            known = here.get(kind.__name__) is kind
        kind = kind.__name__ if known else f"{kind.__module__}.{kind.__qualname__}"
    return {**part, "type": kind}


def inner_datasets(dataset: Mapping) -> list[Mapping]:
    """Settings of the datasets inside of wrappers; one that is bare is its own.

    Args:
        dataset: What a data loader's config holds.

    Returns:
        The parts themselves, no copies.
    """
    if "datasets" in dataset:
        return [inner for part in dataset["datasets"] for inner in inner_datasets(part)]
    if "dataset" in dataset:
        return inner_datasets(dataset["dataset"])
    return [dataset]


def tested_dataset(cfg: Mapping) -> Mapping:
    """Settings of the first dataset that a config tests with; empty without one."""
    return inner_datasets((cfg.get("test_dataloader") or {}).get("dataset") or {})[0]


def metrics_of(cfg: Mapping, split: str = "test") -> list[Mapping]:
    """Settings of the metrics of a split, no copies."""
    evaluator = cfg.get(f"{split}_evaluator") or []
    if isinstance(evaluator, Mapping):
        evaluator = evaluator.get("metrics", evaluator)
    return [evaluator] if isinstance(evaluator, Mapping) else list(evaluator)


def preprocessor_of(cfg: Mapping) -> Mapping:
    """Settings of the data preprocessor, which MMEngine knows at two places."""
    model = cfg.get("model") or {}
    return model.get("data_preprocessor") or cfg.get("data_preprocessor") or {}


def image_shape(cfg: Config) -> tuple[int, int]:
    """Height and width of the images that the config tests with.

    Read off the last resizing step of its test pipeline; 32 x 32 where there is none,
    as for CIFAR and the digits.
    """
    for step in reversed(tested_dataset(cfg).get("pipeline", [])):
        size = step.get("crop_size", step.get("scale"))
        if type_name(step) in ("CenterCrop", "Resize") and size:
            # MMCV writes sizes as (width, height).
            return (size, size) if isinstance(size, int) else (size[1], size[0])
    return _SMALL_SIDE, _SMALL_SIDE


def num_classes(model: Mapping | nn.Module) -> int | None:
    """Classes that a model's head can predict.

    Args:
        model: The model, or its config.

    Returns:
        None where nothing says it.
    """

    def inside(node: Any, name: str) -> Any:
        if isinstance(node, Mapping):
            if name == "num_classes" and "num_things" in node:  # ClusterHead's
                return node["num_things"] + node.get("num_stuff", 0)
            return node.get(name)
        return getattr(node, name, None)

    node = model
    for name in _HEADS:
        head = inside(node, name)
        if isinstance(head, list | tuple | nn.ModuleList) and len(head):
            head = head[-1]  # of a cascade, whose last one decides
        if isinstance(head, Mapping | nn.Module):
            node = head
    return inside(node, "num_classes")
