"""The check of a segmentor's dataset."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_dir_or_file
from mmengine.registry import TRANSFORMS

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
    open_image,
    open_lazily,
    over,
    pipeline_of,
)
from .pipeline import note_pipeline

_MAPS = "seg_map_path"
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16")
# Label maps whose headers are read before a training, spread over the dataset.
_HEADERS = 200


def check_segmentation(
    cfg: Config, settings: Mapping, report: Report, options: Options
) -> BaseDataset:
    """Fill the report and return the dataset."""
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
            f"cannot check {report.name}: {dataset.data_prefix.get('img_path')} "
            f"contains no {dataset.img_suffix} images. Set img_suffix or data_prefix"
        )
    load = TRANSFORMS.build({"type": "LoadAnnotations"})

    seen = []

    def look(sample: dict) -> tuple[list[tuple[str, str]], np.ndarray | None]:
        fault, size = image_fault(sample["img_path"], options.decode)
        faults = [(fault, sample["img_path"])] if fault else []
        if size:
            seen.append(size)
        path = sample["seg_map_path"]
        fault, map_size = image_fault(path, decode=True)
        if fault:
            return [*faults, (fault.replace("image", "label map"), path)], None
        if size and size != map_size:
            sizes = "{} x {}, not {} x {}".format(*map_size, *size)
            faults.append(("label map has another size", f"{path}: {sizes}"))
        with open_image(path) as image:
            if image.mode not in _ONE_CHANNEL:
                faults.append(("label map has several channels", path))
                return faults, None
            # mmseg reads 8 bits, and takes the lowest of more.
            if image.mode.startswith("I") and (most := image.getextrema()[1]) > 255:
                faults.append(("label out of range", f"{path}: {most}"))
        labels = load(dict(sample, seg_fields=[]))["gt_seg_map"]
        return faults, np.bincount(labels.ravel(), minlength=256)

    total, unlabeled = np.zeros(256, np.int64), 0
    for sample, (faults, pixels) in over(samples, look, options):
        for kind, where in faults:
            report.fault(kind, where)
        if pixels is None:
            continue
        total += pixels
        unlabeled += not pixels[: len(classes)].any()
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
        "images without a labeled pixel": unlabeled,
        "classes": len(classes),
        f"pixels to ignore (label {ignored})": int(total[ignored])
        if 0 <= ignored < len(total)
        else 0,
    }
    report.count_classes(classes, dict(enumerate(total.tolist())))
    check_num_classes(cfg, report, classes)
    note_pipeline(cfg, report, seen)
    return dataset


def judge_maps(cfg: Config, settings: Mapping, report: Report) -> None:
    """Fill the report with what listings and headers of label maps tell.

    Datasets of mmseg's ``BaseSegDataset`` whose pipeline loads labels are judged.
    """
    from mmseg.datasets import BaseSegDataset

    try:
        dataset = open_lazily(settings, report.name)
    except DatasetError:
        return  # the training says why, if it cannot be built
    loads = any(
        type_name(step) == "LoadAnnotations" for step in pipeline_of(cfg, report.name)
    )
    paths = {
        key: str(dataset.data_prefix.get(key) or "") for key in ("img_path", _MAPS)
    }
    if not isinstance(dataset, BaseSegDataset) or "://" in "".join(paths.values()):
        return
    report.source = paths["img_path"]
    for path in list(paths.values())[: 1 + loads]:
        if not os.path.isdir(path):
            report.fault("folder does not exist", path or "(no folder)")
            return
    names = _image_names(dataset, Path(paths["img_path"]))
    if not names:
        where = f"{paths['img_path']}, of {dataset.img_suffix}"
        report.fault("folder has no images", where)
    if loads:
        root = Path(paths[_MAPS])
        there = set(_files(root, dataset.seg_map_suffix))
        maps = [name + dataset.seg_map_suffix for name in names]
        for name in maps:
            if name not in there:
                report.fault("label map is missing", root / name)
        _judge_headers([root / name for name in maps if name in there], report)
    if classes := dataset.metainfo.get("classes"):
        check_num_classes(cfg, report, classes)


def _judge_headers(paths: list[Path], report: Report) -> None:
    for path in paths[:: max(len(paths) // _HEADERS, 1)]:
        try:
            with open_image(path) as image:
                if image.mode not in _ONE_CHANNEL:
                    report.fault("label map has several channels", path)
        except Exception:  # decoders raise what they like
            report.fault("label map cannot be read", path)


def _image_names(dataset: BaseDataset, root: Path) -> list[str]:
    """Names of the images below their folder, without suffix."""
    if dataset.ann_file and not os.path.isdir(dataset.ann_file):
        try:
            text = Path(dataset.ann_file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DatasetError(f"cannot read {dataset.ann_file}: {error}") from error
        return [line.strip() for line in text.splitlines()]
    suffix = dataset.img_suffix
    return [name[: len(name) - len(suffix)] for name in _files(root, suffix)]


def _files(root: Path, suffix: str) -> list[str]:
    """Files below a folder, named from there."""
    listing = list_dir_or_file(root, list_dir=False, suffix=suffix, recursive=True)
    return list(listing)


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
