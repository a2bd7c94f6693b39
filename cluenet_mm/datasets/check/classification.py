"""The check of a classifier's data set."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from ...config import type_name
from .common import (
    Options,
    Report,
    build,
    check_num_classes,
    evaluators,
    image_fault,
    over,
)


def check_classification(
    cfg: Config, settings: Mapping, report: Report, options: Options
) -> BaseDataset:
    """Fill the report and return the data set."""
    dataset = build(settings, report.name)
    classes = dataset.metainfo.get("classes") or ()
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    numbers = Counter()

    def look(sample: dict) -> str:
        if "img_path" not in sample:
            return ""
        return image_fault(sample["img_path"], options.decode)[0]

    for index, (sample, fault) in enumerate(over(samples, look, options)):
        where = sample.get("img_path", f"sample {index}")
        if fault:
            report.fault(fault, where)
        for label in np.atleast_1d(sample.get("gt_label", [])).tolist():
            numbers[label] += 1
            if classes and not 0 <= label < len(classes):
                report.fault("label out of range", f"{where}: {label}")
    report.counts["images"] = len(samples)
    report.counts["classes"] = len(classes)
    report.count_classes(classes, numbers)
    if classes:
        check_num_classes(cfg, report, classes)
        _check_topk(cfg, settings, report, len(classes))
    return dataset


def _check_topk(
    cfg: Config, settings: Mapping, report: Report, num_classes: int
) -> None:
    """A metric of more classes than there are would fail after the first epoch."""
    for place, metric in evaluators(cfg, settings):
        most = np.max(metric.get("topk", 1))
        if type_name(metric) == "Accuracy" and most > num_classes:
            where = f"{place}.topk has {most}, and there are {num_classes} classes"
            report.fault("a metric needs more classes", where)
