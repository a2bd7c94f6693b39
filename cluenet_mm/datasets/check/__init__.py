"""What may be wrong with the files of a dataset, found before a training finds it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

from ...config import resolve_type, type_name
from ...tasks import TASKS, task_of
from .common import (
    DatasetError,
    Options,
    Report,
    data_sets,
    image_fault,
    named_parts,
    unfiltered,
)
from .refuse import refuse_unusable

__all__ = [
    "DatasetError",
    "Options",
    "Report",
    "check",
    "choose_samples",
    "data_sets",
    "labeled_sample",
    "named_parts",
    "refuse_unusable",
]


def check(
    cfg: Config, settings: Mapping, name: str, options: Options
) -> tuple[Report, BaseDataset | None]:
    """Check the files of one dataset; nothing is filtered out.

    Args:
        cfg: Config of a classifier, a detector (datasets in COCO's format) or a
            segmentor, as its ``default_scope`` says.
        settings: From :func:`data_sets`.
        name: Name of the report.
        options: How to check.

    Returns:
        The report, and the dataset, if the library can load it.

    Raises:
        DatasetError: The dataset cannot be opened; the message names what is missing.
        ValueError: The config is of no known task.
    """
    task = task_of(cfg)
    init_default_scope(task.library)
    with DATASETS.switch_scope_and_registry(None) as registry:
        kind = resolve_type(settings, registry)
    if kind and not issubclass(kind, BaseDataset):
        raise DatasetError(
            f"cannot check {name}: {kind.__name__} does not list its samples as "
            "MMEngine's datasets do"
        )
    report = Report(name, type_name(settings))
    dataset = task.load("check")(cfg, unfiltered(settings), report, options)
    return report, dataset


def choose_samples(dataset: BaseDataset, number: int) -> list[int]:
    """Indices of samples with all classes among them, as far as the number allows.

    The classes take turns, each with its first sample that was not chosen; without
    labels in memory, as with label maps, samples are spread evenly.
    """
    by_class, unlabeled = {}, []
    for index in range(len(dataset)):
        data = dataset.get_data_info(index)
        labels = {instance["bbox_label"] for instance in data.get("instances", [])}
        labels |= {segment["category"] for segment in data.get("segments_info", [])}
        labels |= set(np.atleast_1d(data.get("gt_label", [])).tolist())
        for label in labels:
            by_class.setdefault(label, []).append(index)
        if not labels:
            unlabeled.append(index)
    if not by_class:
        count = min(number, len(dataset))
        return [position * len(dataset) // count for position in range(count)]
    queues = [iter(by_class[label]) for label in sorted(by_class)] + [iter(unlabeled)]
    chosen = set()
    while queues and len(chosen) < number:
        for queue in list(queues):
            index = next((i for i in queue if i not in chosen), None)
            if index is None:
                queues.remove(queue)
            elif len(chosen) < number:
                chosen.add(index)
    return sorted(chosen)


def labeled_sample(
    dataset: BaseDataset, scope: str, index: int
) -> tuple[str, np.ndarray, Any] | None:
    """One sample with its labels, as they are in the files.

    Returns:
        A name, the image as ``(H, W, 3)`` uint8 RGB, and the library's data sample;
        None if a file cannot be read.
    """
    data = dataset.get_data_info(index)
    paths = [data[key] for key in ("img_path", "seg_map_path") if data.get(key)]
    if any(image_fault(path, decode=True)[0] for path in paths):
        return None
    task = TASKS[scope]
    steps = [{"type": task.label_loader}] if task.label_loader else []
    if scope == "mmdet":
        masks = all("mask" in instance for instance in data.get("instances", []))
        steps[0] |= {"with_bbox": True, "with_mask": masks}
    if "segments_info" in data:
        steps = [{"type": "cluenet_mm.LoadPanoptic"}]
    steps.append({"type": task.packing})
    name = f"{index:04d}"
    if "img" in data:  # a dataset in memory
        image = data["img"]
    else:
        name += f"_{Path(data['img_path']).stem}"
        data = TRANSFORMS.build({"type": "LoadImageFromFile"})(data)
        image = data["img"][..., ::-1].copy()
    for step in steps:
        data = TRANSFORMS.build(step)(data)
    sample = data["data_samples"]
    if scope == "mmdet":  # whose visualizer takes plain tensors
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.tensor
    return name, image, sample
