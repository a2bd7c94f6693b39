"""The check of a segmentor's data set."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import TRANSFORMS
from PIL import Image

from ...config import preprocessor_of, type_name
from .common import (
    DatasetError,
    Options,
    Report,
    build,
    check_num_classes,
    data_sets,
    evaluators,
    image_fault,
    over,
)

_ONE_CHANNEL = ("1", "L", "P", "I", "I;16")


def check_segmentation(
    cfg: Config, settings: Mapping, report: Report, options: Options
) -> BaseDataset:
    """Fill the report and return the data set."""
    dataset = build(settings, report.name)
    classes = dataset.metainfo.get("classes") or ()
    ignored = _ignored_labels(cfg, settings, report.name)
    for place, label in ignored.items():
        if 0 <= label < len(classes):
            where = f"{place} is {label}, the label of {classes[label]!r}"
            report.fault("a class is ignored", where)
    ignored = ignored["model.decode_head.ignore_index"]
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    if not samples:
        raise DatasetError(
            f"{report.name}: no image {dataset.img_suffix} in "
            f"{dataset.data_prefix.get('img_path')}"
        )
    load = TRANSFORMS.build({"type": "LoadAnnotations"})

    def look(sample: dict) -> tuple[list[tuple[str, str]], np.ndarray | None]:
        fault, size = image_fault(sample["img_path"], options.decode)
        faults = [(fault, sample["img_path"])] if fault else []
        path = sample["seg_map_path"]
        fault, map_size = image_fault(path, decode=True)
        if fault:
            return [*faults, (fault.replace("image", "label map"), path)], None
        if size and size != map_size:
            sizes = "{} x {}, not {} x {}".format(*map_size, *size)
            faults.append(("label map has another size", f"{path}: {sizes}"))
        with Image.open(path) as image:
            if image.mode not in _ONE_CHANNEL:
                faults.append(("label map has several channels", path))
                return faults, None
        labels = load(dict(sample, seg_fields=[]))["gt_seg_map"]
        return faults, np.bincount(labels.ravel(), minlength=256)

    total, unlabelled = np.zeros(256, np.int64), 0
    for sample, (faults, pixels) in over(samples, look, options):
        for kind, where in faults:
            report.fault(kind, where)
        if pixels is None:
            continue
        total += pixels
        unlabelled += not pixels[: len(classes)].any()
        wrong = [
            label
            for label in np.flatnonzero(pixels).tolist()
            if label >= len(classes) and label != ignored
        ]
        if wrong:
            where = f"{sample['seg_map_path']}: {', '.join(map(str, wrong))}"
            report.fault("label out of range", where)
    for path in _maps_without_image(dataset, samples):
        report.fault("label map without an image", path)
    report.unit = "pixels"
    report.counts = {
        "images": len(samples),
        "images without a labelled pixel": unlabelled,
        "classes": len(classes),
        f"pixels to ignore (label {ignored})": int(total[ignored]),
    }
    report.count_classes(classes, dict(enumerate(total.tolist())))
    check_num_classes(cfg, report, classes)
    return dataset


def _ignored_labels(cfg: Config, settings: Mapping, name: str) -> dict[str, int]:
    """Labels that take no part, by the place in the config that says so."""
    split = name.split(" ")[0]
    heads = (cfg.get("model") or {}).get("decode_head") or {}
    places = {
        # The last of several heads predicts.
        "model.decode_head": heads if isinstance(heads, Mapping) else heads[-1],
        f"{split}_dataloader.dataset": settings,
        **dict(evaluators(cfg, settings)),
    }
    for part in data_sets(cfg, split):
        for number, step in enumerate(part.get("pipeline", ())):
            if type_name(step) == "RandomCrop":
                places[f"{split}_dataloader.dataset.pipeline.{number}"] = step
    labels = {
        f"{place}.ignore_index": part.get("ignore_index", 255)
        for place, part in places.items()
    }
    padding = preprocessor_of(cfg).get("seg_pad_val", 255)
    return labels | {"data_preprocessor.seg_pad_val": padding}


def _maps_without_image(dataset: BaseDataset, samples: list[dict]) -> list[Path]:
    """Label maps in the folder that belong to no sample."""
    folder = dataset.data_prefix.get("seg_map_path")
    if dataset.ann_file or not folder:  # a list of names may well leave some out
        return []
    known = {Path(sample["seg_map_path"]) for sample in samples}
    return sorted(set(Path(folder).rglob(f"*{dataset.seg_map_suffix}")) - known)
