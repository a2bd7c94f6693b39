"""How a config is read: found by its name, checked, and its names filled."""

import traceback
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import list_dir_or_file

from ..errors import one_line, warn
from ..package_data import config_name, config_path
from .check import all_keys, refuse_impossible, refuse_other_kinds, unknown_keys
from .parts import inner_datasets
from .variables import fill_names

__all__ = ["count_classes", "default_work_dir", "find_config", "read_config"]

_MODULE = "<module>"  # how Python calls the code of a file outside of functions


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
    (:mod:`cluenet_mm.config.variables`), and ``num_classes = "auto"`` is what
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
