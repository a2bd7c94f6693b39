"""The check of a classifier's dataset."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_dir_or_file

from ...config import type_name
from .common import (
    DatasetError,
    Options,
    Report,
    build,
    check_num_classes,
    evaluators,
    image_fault,
    lists_as,
    named_parts,
    open_lazily,
    over,
)
from .pipeline import note_pipeline


def check_classification(
    cfg: Config, settings: Mapping, report: Report, options: Options
) -> BaseDataset:
    """Fill the report and return the dataset."""
    judge_folder(cfg, settings, report)
    dataset = build(settings, report.name)
    classes = dataset.metainfo.get("classes") or ()
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    numbers, sizes = Counter(), []

    def look(sample: dict) -> tuple[str, tuple[int, int] | None]:
        if "img_path" not in sample:
            return "", None
        return image_fault(sample["img_path"], options.decode)

    for index, (sample, (fault, size)) in enumerate(over(samples, look, options)):
        where = sample.get("img_path", f"sample {index}")
        if fault:
            report.fault(fault, where)
        if size:
            sizes.append(size)
        for label in np.atleast_1d(sample.get("gt_label", [])).tolist():
            numbers[label] += 1
            if classes and not 0 <= label < len(classes):
                report.fault("label out of range", f"{where}: {label}")
    report.counts["images"] = len(samples)
    report.counts["classes"] = len(classes)
    report.count_classes(classes, numbers)
    if classes:
        if "model and dataset differ" not in report.faults:  # of folders, known by now
            check_num_classes(cfg, report, classes)
        _check_topk(cfg, settings, report, len(classes))
    note_pipeline(cfg, report, sizes, len(samples))
    return dataset


def judge_folder(cfg: Config, settings: Mapping, report: Report) -> None:
    """Fill the report with what the listing of a folder of classes tells.

    Datasets of mmpretrain's ``CustomDataset`` without an annotation file are judged.
    """
    folder = _folder_of_classes(settings, report.name)
    if folder is None:
        return
    root, suffixes, names = folder
    report.source = str(root)
    found = _class_folders(root)
    if found is None:
        report.fault("folder does not exist", root)
        return
    if not found:
        report.fault("folder has no folders of classes", root)
        return
    if not any(_has_image(root / name, suffixes) for name in found):
        report.fault("folder has no images", f"{root}, of {', '.join(suffixes)}")
        return
    if names and len(names) != len(found):
        where = f"{len(found)} folders, {len(names)} classes"
        report.fault("number of folders and of classes differ", where)
    check_num_classes(cfg, report, names or found)
    if report.name.startswith("train") or not cfg.get("train_dataloader"):
        return
    for name, part in named_parts(cfg, "train").items():
        other = _folder_of_classes(part, name)
        train = _class_folders(other[0]) if other else None
        if train is not None and train != found:
            parts = []
            if missing := sorted(set(train) - set(found)):
                parts.append(f"only {name} has {', '.join(missing[:10])}")
            if extra := sorted(set(found) - set(train)):
                parts.append(f"only {report.name} has {', '.join(extra[:10])}")
            report.fault("train and val have other classes", "; ".join(parts))


def _folder_of_classes(
    settings: Mapping, name: str
) -> tuple[Path, tuple[str, ...], tuple | None] | None:
    """Folder, suffixes of images, and names of classes of an image folder, or None."""
    from mmpretrain.datasets import CustomDataset

    try:
        dataset = open_lazily(settings, name)
    except DatasetError:  # of a kind that always reads; a training says what is wrong
        return None
    if not lists_as(dataset, CustomDataset) or "://" in dataset.img_prefix:
        return None
    if dataset.ann_file or not dataset.with_label:
        return None
    return Path(dataset.img_prefix), tuple(sorted(dataset.extensions)), dataset.CLASSES


def _class_folders(root: Path) -> list[str] | None:
    """Names of the folders in a folder in mmpretrain's order; None without it."""
    if not root.is_dir():
        return None
    return sorted(list_dir_or_file(root, list_file=False))


def _has_image(folder: Path, suffixes: tuple[str, ...]) -> bool:
    files = list_dir_or_file(folder, list_dir=False, recursive=True)
    return any(name.lower().endswith(suffixes) for name in files)


def _check_topk(
    cfg: Config, settings: Mapping, report: Report, num_classes: int
) -> None:
    """A metric of more classes than there are would fail after the first epoch."""
    for place, metric in evaluators(cfg, settings):
        most = np.max(metric.get("topk", 1))
        if type_name(metric) == "Accuracy" and most > num_classes:
            where = f"{place}.topk has {most}, and there are {num_classes} classes"
            report.fault("a metric needs more classes", where)
