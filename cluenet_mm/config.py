"""What a config says: how it is read, and what its parts are.

The ``type`` of a part is a name, or in pure Python configs the class.
"""

import traceback
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import list_dir_or_file
from mmengine.registry import Registry
from torch import nn

from .config_check import all_keys, refuse_impossible, refuse_other_kinds, unknown_keys
from .config_variables import fill_names
from .errors import one_line, warn
from .package_data import config_name, config_path

__all__ = [
    "PLACES",
    "count_classes",
    "default_work_dir",
    "find_config",
    "image_shape",
    "inner_datasets",
    "metrics_of",
    "num_classes",
    "preprocessor_of",
    "read_config",
    "resolve_type",
    "type_name",
    "with_type_name",
]

_MODULE = "<module>"  # how Python calls the code of a file outside of functions
# Where the settings of a dataset say that its files are.
PLACES = ("data_root", "data_prefix", "ann_file")
# Side of CIFAR's images and of the digits, whose configs do not resize.
_SMALL_SIDE = 32
# Where the models of the three libraries keep what knows the classes, from the outside
# to the inside.
_HEADS = ("decode_head", "roi_head", "bbox_head", "head")


def find_config(name: str) -> Path:
    """Path of a config that is given by its path or by its name in this package.

    Raises:
        FileNotFoundError: There is neither.
    """
    path = Path(name)
    try:
        if path.is_file():
            return path
    except OSError as error:  # such as a name that is too long
        raise FileNotFoundError(f"config {name}: {error.strerror}") from None
    try:
        return config_path(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"cannot read config {name}: {error}") from None


def read_config(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Open a config, override settings of it, and fill the names that it uses.

    ``"$image_size"`` in a config is the value that ``image_size`` has at its top
    (:mod:`cluenet_mm.config_variables`), and ``num_classes = "auto"`` is what
    :func:`count_classes` finds.

    Args:
        name: Path, or name of a config of this package.
        options: What ``--cfg-options`` says.

    Raises:
        FileNotFoundError: No such config.
        ValueError: It cannot be read, has no place for the options, or a value that
            cannot be meant; the message names the line or the key.
    """
    path = find_config(name)
    try:
        cfg = Config.fromfile(path)
        deque(all_keys(cfg), maxlen=0)  # what is imported lazily
    except Exception as error:  # a config is code, and may fail in every way
        frames = traceback.extract_tb((error.__cause__ or error).__traceback__)
        lines = [f"{f.filename}, line {f.lineno}" for f in frames if f.name == _MODULE]
        where = f" ({lines[-1]})" if lines else ""
        raise ValueError(
            f"config {name} cannot be read: {one_line(error)}{where}"
        ) from error
    for line in unknown_keys(cfg, options or {}):
        warn(line)
    refuse_other_kinds(cfg, options or {})
    try:
        cfg.merge_from_dict(dict(options or {}))
    except Exception as error:
        raise ValueError(
            f"--cfg-options do not fit config {name}: {one_line(error)}"
        ) from error
    fill_names(cfg, {"num_classes": count_classes})
    refuse_impossible(cfg)
    return cfg


def count_classes(cfg: Config) -> int:
    """Classes that a dataset of a config names, or else the folders in its folder.

    Of the splits, train counts if its folder is there, else val, else test.

    Raises:
        ValueError: No dataset has a folder, or that has no folders.
    """
    roots = []
    for split in ("train", "val", "test"):
        if not cfg.get(f"{split}_dataloader"):
            continue
        dataset = inner_datasets(cfg[f"{split}_dataloader"].dataset)[0]
        named = (dataset.get("metainfo") or dataset).get("classes")
        if isinstance(named, list | tuple):
            return len(named)
        prefix = dataset.get("data_prefix") or ""
        if isinstance(prefix, Mapping):
            prefix = prefix.get("img_path") or ""
        roots.append(Path(dataset.get("data_root") or "", prefix))
    there = [root for root in roots if root.is_dir()]
    if there and (number := len(list(list_dir_or_file(there[0], list_file=False)))):
        return number
    where = f"{there[0]} has no folders" if there else f"{roots[0]} is not a folder"
    raise ValueError(
        f"cannot count the classes: {where}. Set data_root to a folder with "
        "train/<class>/<image> and val/<class>/<image>, or set num_classes"
    )


def default_work_dir(cfg: Config) -> str:
    """A folder of its own for every config of this package, named like it.

    Families share file names. A config from elsewhere gets OpenMMLab's folder.
    """
    path = Path(cfg.filename)
    return str(Path("work_dirs", config_name(path) or path.name).with_suffix(""))


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
    dataset = inner_datasets(cfg.get("test_dataloader", {}).get("dataset", {}))[0]
    for step in reversed(dataset.get("pipeline", [])):
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
            return node.get(name)
        return getattr(node, name, None)

    node = model
    for name in _HEADS:
        head = inside(node, name)
        if isinstance(head, Mapping | nn.Module):
            node = head
    return inside(node, "num_classes")
