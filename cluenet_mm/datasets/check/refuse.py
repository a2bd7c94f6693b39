"""Data that make a training crash or mean nothing, refused before it starts.

Only JSON files, listings of folders and headers of label maps are read.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ...config import type_name
from ...tasks import TASKS
from .common import DatasetError, Report, named_parts

__all__ = ["REFUSED", "refuse_unusable"]

# What a training is refused for, and what to do. check_dataset.py finds more.
_ORDER = "Write the classes of the config in the order of the file"
_REMOVE = "Correct or remove it"
_IDS = "Give each its own id"
_MASK = "Export the masks again, or remove the object"
REFUSED = {
    # annotations of detectors
    "there are no images": "Set ann_file to a file with images",
    "image has no valid id": "Use whole numbers",
    "image has no valid file name": "Name a file below data_prefix",
    "image has no valid size": "Write the size of the file in pixels",
    "two images have one id": _IDS,
    "category has no valid id or name": "Write a number and a text",
    "two categories have one id": _IDS,
    "two categories have one name": "Merge them or rename one",
    "category lacks isthing": "Write 1 for things and 0 for stuff",
    "classes are a text": "Write a tuple, with a comma after a single name",
    "class of the config is not in the annotations": (
        "Set metainfo.classes to the names in the file, in its order"
    ),
    "classes have another order than the annotations": (
        f"Labels follow the file, so that names would be swapped. {_ORDER}"
    ),
    "annotation has no valid id": "Use whole numbers",
    "several annotations have one id": _IDS,
    "annotation of an unknown image": "Remove it, or add the image",
    "annotation of an unknown category": "Remove it, or add the category",
    "there are no objects of the classes": "Set ann_file and metainfo.classes",
    "box is not four numbers": _REMOVE,
    "box has a negative size": "Write [x, y, width, height]",
    "box lies far outside its image": "Write [x, y, width, height] in pixels",
    "iscrowd is not 0 or 1": "Write 0, or 1 for a region of many objects",
    "area is not a number": "Write the pixels of the object",
    "segments are not a list": _REMOVE,
    "object has no mask": f"{_MASK}, or train a detector without masks",
    "mask is neither polygons nor RLE": _MASK,
    "polygon is not a list of numbers": _MASK,
    "polygon has an odd number of coordinates": _MASK,
    "polygon lies far outside its image": _MASK,
    "mask has another size": _MASK,
    "RLE has no counts": _MASK,
    "RLE counts are broken": _MASK,
    "stuff comes before things": "Sort the categories: labels count the things first",
    "RLE has another length than its image": _MASK,
    # folders
    "folder does not exist": "Set data_root and data_prefix (docs/data.md)",
    "folder has no folders of classes": "Sort the images into a folder for each class",
    "folder has no images": "Set data_prefix, or the suffixes of the files",
    "train and val have other classes": "Labels count the folders: make them equal",
    "number of folders and of classes differ": "Set metainfo.classes to the folders",
    "label map is missing": "Set data_prefix.seg_map_path and seg_map_suffix",
    "label map has several channels": "Write labels of 0, 1, ... in one channel",
    "label map cannot be read": "Write it again",
    # config
    "model and dataset differ": "Set the number in the config",
}

# Bytes; a larger file would be read for half a minute, once more than by training.
LARGEST_JSON = 100_000_000


def refuse_unusable(cfg: Config, *splits: str) -> list[str]:
    """Refuse data whose use would crash or mean nothing.

    Datasets of other kinds than COCO's format, image folders, and images with label
    maps check themselves. Every process of a run may call this: all come to the same
    end.

    Args:
        cfg: Config of a classifier, a detector or a segmentor; of another task nothing
            is checked.
        splits: Of ``"train"``, ``"val"`` and ``"test"``; those that the config lacks
            are skipped.

    Returns:
        What was not checked, a line each.

    Raises:
        DatasetError: The first of the faults that :data:`REFUSED` lists, in one line
            that names the file, the entry, and what to do.
    """
    task = TASKS.get(cfg.get("default_scope"))
    if task is None:
        return []
    init_default_scope(task.library)
    judge = task.load("judge")
    skipped = []
    for split in splits:
        if not cfg.get(f"{split}_dataloader"):
            continue
        for name, settings in named_parts(cfg, split).items():
            large = _too_large(settings)
            if large:
                skipped.append(large)
                continue
            report = Report(name, type_name(settings))
            judge(cfg, settings, report)
            _raise_first(report)
    return skipped


def _too_large(settings: Mapping) -> str:
    path = Path(settings.get("data_root") or "", settings.get("ann_file") or "")
    if not path.is_file() or os.path.getsize(path) <= LARGEST_JSON:
        return ""
    size = os.path.getsize(path) / 1e6
    return f"{path} ({size:.0f} MB) is left to tools/check_dataset.py"


def _raise_first(report: Report) -> None:
    for kind, places in report.faults.items():
        if kind in REFUSED:
            more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
            source = f" {report.source}:" if report.source not in places[0] else ""
            raise DatasetError(
                f"cannot use the data of {report.name}:{source} {kind}: "
                f"{places[0]}{more}. {REFUSED[kind]}. tools/check_dataset.py lists all "
                "faults"
            )
