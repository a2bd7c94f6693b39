"""What may be wrong with the files of a data set, found before a training finds it."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from PIL import Image

# COCO's own boxes leave their image by rounding.
_TOLERANCE = 1.0
_EXIF_ORIENTATION = 0x0112
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16")

Progress = Callable[[Iterable, int], Iterable]


class DatasetError(ValueError):
    """A data set that cannot be opened; the message is one line."""


@dataclass
class Report:
    """What was found in one data set.

    Attributes:
        name: The split.
        kind: Type of the data set.
        counts: How many there are, by what.
        unit: What the histogram counts.
        histogram: Number by class, in the order of the labels.
        faults: Where, by kind of fault.
    """

    name: str
    kind: str
    counts: dict[str, int] = field(default_factory=dict)
    unit: str = "images"
    histogram: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, kind: str, where: object) -> None:
        """Note a fault."""
        self.faults.setdefault(kind, []).append(str(where))

    def count_classes(self, classes: Iterable, numbers: Mapping[int, int]) -> None:
        """Fill the histogram, also with the classes of which there is nothing."""
        for label, name in enumerate(classes):
            self.histogram[str(name)] = int(numbers.get(label, 0))


@dataclass(frozen=True)
class Options:
    """How to check.

    Attributes:
        decode: Whether to decode every image, or only to see that it is there. Label
            maps are always decoded.
        workers: Threads that read files.
        progress: Wraps an iterable of so many items.
    """

    decode: bool = True
    workers: int = 4
    progress: Progress = lambda items, total: items


def data_sets(cfg: Config, split: str) -> list[dict]:
    """Settings of the data sets of a split, taken out of their wrappers.

    Raises:
        DatasetError: The config has no such split.
    """
    loader = cfg.get(f"{split}_dataloader")
    if not loader:
        raise DatasetError(f"the config has no {split}_dataloader")
    return list(_unwrapped(loader.dataset))


def check(
    cfg: Config, settings: Mapping, name: str, options: Options
) -> tuple[Report, BaseDataset | None]:
    """Check the files of one data set; nothing is filtered out.

    Args:
        cfg: Config of a classifier, a detector (data sets in COCO's format) or a
            segmentor, as its ``default_scope`` says.
        settings: From :func:`data_sets`.
        name: Name of the report.
        options: How to check.

    Returns:
        The report, and the data set, if the library can load it.

    Raises:
        DatasetError: The data set cannot be opened; the message names what is missing.
        ValueError: The config is of no known task.
    """
    checks = {
        "mmpretrain": _check_classification,
        "mmdet": _check_detection,
        "mmseg": _check_segmentation,
    }
    scope = cfg.get("default_scope")
    if scope not in checks:
        raise ValueError(
            f"the config's default_scope is {scope!r}; the tasks are those of "
            + ", ".join(checks)
        )
    init_default_scope(scope)
    report = Report(name, settings["type"].split(".")[-1])
    # Detectors leave out images without objects, and a test keeps them.
    settings = {k: v for k, v in settings.items() if k != "filter_cfg"}
    settings["pipeline"] = []
    dataset = checks[scope](cfg, settings, report, options)
    return report, dataset


def labelled_sample(
    dataset: BaseDataset, scope: str, index: int
) -> tuple[str, np.ndarray, Any] | None:
    """One sample with its labels, as they are in the files.

    Returns:
        A name, the image as ``(H, W, 3)`` uint8 RGB, and the library's data sample;
        None if a file cannot be read.
    """
    data = dataset.get_data_info(index)
    paths = [data[key] for key in ("img_path", "seg_map_path") if data.get(key)]
    if any(_image_fault(path, decode=True)[0] for path in paths):
        return None
    masks = all("mask" in instance for instance in data.get("instances", []))
    steps = {
        "mmpretrain": [{"type": "PackInputs"}],
        "mmdet": [
            {"type": "LoadAnnotations", "with_bbox": True, "with_mask": masks},
            {"type": "PackDetInputs"},
        ],
        "mmseg": [{"type": "LoadAnnotations"}, {"type": "PackSegInputs"}],
    }[scope]
    name = f"{index:04d}"
    if "img" in data:  # a data set in memory
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


def _unwrapped(dataset: Mapping) -> Iterator[dict]:
    if "datasets" in dataset:
        for part in dataset["datasets"]:
            yield from _unwrapped(part)
    elif "dataset" in dataset:
        yield from _unwrapped(dataset["dataset"])
    else:
        yield dict(dataset)


def _build(settings: Mapping, name: str) -> BaseDataset:
    try:
        return DATASETS.build(dict(settings))
    except Exception as error:  # whatever a data set raises is what the user wants
        line = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"{name}: {settings['type']} cannot be opened (docs/data.md describes the "
            f"layouts): {line}"
        ) from error


def _check_num_classes(cfg: Config, report: Report, classes: Iterable) -> None:
    """Compare the model with the data set."""
    node = cfg.get("model") or {}
    for name in ("head", "decode_head", "roi_head", "bbox_head"):
        if isinstance(node.get(name), dict):
            node = node[name]
    wanted, found = node.get("num_classes"), len(tuple(classes))
    if wanted is not None and wanted != found:
        report.fault(
            "model and data set differ",
            f"num_classes is {wanted}, and the data set has {found} classes",
        )


def _image_fault(path: str, decode: bool) -> tuple[str, tuple[int, int] | None]:
    """What is wrong with an image file, and its width and height as it is displayed."""
    try:
        with Image.open(path) as image:
            size = image.size
            # Looking for a PNG's orientation would decode it.
            turned = image.format != "PNG" and image.getexif().get(_EXIF_ORIENTATION, 1)
            if turned > 4:
                size = size[::-1]
            if decode:
                image.load()
    except FileNotFoundError:
        return "file is missing", None
    except Exception:  # decoders raise what they like
        return "image is damaged", None
    return "", size


def _over(items: list, work: Callable[[Any], Any], options: Options) -> Iterator:
    """Items and what ``work`` makes of them, by threads, with progress."""
    with ThreadPool(options.workers) as pool:
        results = pool.imap(work, items, chunksize=8)
        for item in options.progress(items, len(items)):
            yield item, next(results)


# --- classification ---------------------------------------------------------------


def _check_classification(
    cfg: Config, settings: Mapping, report: Report, options: Options
) -> BaseDataset:
    dataset = _build(settings, report.name)
    classes = dataset.metainfo.get("classes") or ()
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    numbers = Counter()

    def look(sample: dict) -> str:
        if "img_path" not in sample:
            return ""
        return _image_fault(sample["img_path"], options.decode)[0]

    for index, (sample, fault) in enumerate(_over(samples, look, options)):
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
        _check_num_classes(cfg, report, classes)
    return dataset


# --- detection --------------------------------------------------------------------


def _check_detection(
    cfg: Config, settings: Mapping, report: Report, options: Options
) -> BaseDataset | None:
    dataset, path, content = _read_coco(settings, report.name)
    classes = dataset.metainfo.get("classes") or ()
    images = {}
    for image in content["images"]:
        if image["id"] in images:
            report.fault("two images have one id", f"{path}: {image['id']}")
        images[image["id"]] = image
    folder = dataset.data_prefix.get("img", "")

    def look(image: dict) -> tuple[str, tuple[int, int] | None]:
        return _image_fault(str(Path(folder, image["file_name"])), options.decode)

    for image, (fault, size) in _over(list(images.values()), look, options):
        if fault:
            report.fault(fault, Path(folder, image["file_name"]))
        elif size != (image["width"], image["height"]):
            report.fault(
                "image has another size than its annotations say",
                f"{image['file_name']}: {size[0]} x {size[1]}, not "
                f"{image['width']} x {image['height']}",
            )
    names = {category["id"]: category["name"] for category in content["categories"]}
    for name in classes:
        if name not in names.values():
            report.fault("class of the config is not in the annotations", name)
    masks = any(
        step.get("with_mask")
        for step in _pipeline_of(cfg, report.name)
        if step["type"].endswith("LoadAnnotations")
    )
    numbers, busy, ids = Counter(), set(), Counter()
    crowds = others = tiny = 0
    for annotation in content["annotations"]:
        ids[annotation.get("id")] += 1
        where = f"annotation {annotation.get('id')}"
        image = images.get(annotation.get("image_id"))
        if image is None:
            where += f" of image {annotation.get('image_id')}"
            report.fault("annotation of an unknown image", where)
            continue
        name = names.get(annotation.get("category_id"))
        if name is None:
            where += f": category {annotation.get('category_id')}"
            report.fault("annotation of an unknown category", where)
            continue
        if name not in classes:
            others += 1
            continue
        where += f" in {image['file_name']}"
        fault = _object_fault(annotation, image, masks)
        if fault:
            report.fault(fault, f"{where}: {annotation.get('bbox')}")
        elif min(annotation["bbox"][2:]) < 1:
            tiny += 1
        busy.add(image["id"])
        if annotation.get("iscrowd"):
            crowds += 1
        else:
            numbers[classes.index(name)] += 1
    for number, uses in ids.items():
        if uses > 1:
            report.fault("several annotations have one id", f"{path}: {number}")
    report.unit = "objects"
    report.counts = {
        "images": len(images),
        "images without objects": len(images) - len(busy),
        "classes": len(classes),
        "objects": sum(numbers.values()),
        "crowd regions": crowds,
        "objects of other classes": others,
        "objects below one pixel, which are left out": tiny,
    }
    report.count_classes(classes, numbers)
    _check_num_classes(cfg, report, classes)
    try:
        return _build(settings, report.name)
    except DatasetError as error:
        report.fault("mmdet cannot load it", error)
        return None


def _read_coco(settings: Mapping, name: str) -> tuple[BaseDataset, Path, dict]:
    """The data set, and its annotations as they are before anything is left out."""
    from mmdet.datasets import CocoDataset

    dataset = _build({**settings, "lazy_init": True}, name)
    if not isinstance(dataset, CocoDataset):
        raise DatasetError(
            f"{name}: of detection, data sets in COCO's format can be checked, and "
            f"{settings['type']} is none"
        )
    path = Path(dataset.ann_file)
    if not path.is_file():
        with suppress(FileNotFoundError):
            dataset.full_init()  # some make their files
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{name}: {path} does not exist; docs/data.md describes the layouts"
        ) from None
    except ValueError as error:
        raise DatasetError(f"{name}: {path} is no JSON: {error}") from None
    wanted = {
        "images": {"id", "file_name", "width", "height"},
        "annotations": set(),
        "categories": {"id", "name"},
    }
    for key, needs in wanted.items():
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list):
            raise DatasetError(f"{name}: {path} has no list {key!r}")
        for item in items:
            if not isinstance(item, dict) or not needs <= item.keys():
                raise DatasetError(
                    f"{name}: {path}: one of {key!r} lacks {', '.join(sorted(needs))}"
                )
    return dataset, path, content


def _pipeline_of(cfg: Config, split: str) -> list[dict]:
    return next(iter(data_sets(cfg, split.split(" ")[0]))).get("pipeline", [])


def _object_fault(annotation: dict, image: dict, masks: bool) -> str:
    """What is wrong with one object, if anything."""
    box = annotation.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(v, int | float) and isfinite(v) for v in box)
    ):
        return "box is not four numbers"
    x, y, width, height = box
    if width <= 0 or height <= 0 or annotation.get("area", 1) <= 0:
        return "object has no area"
    right, bottom = x + width - image["width"], y + height - image["height"]
    if max(-x, -y, right, bottom) > _TOLERANCE:
        return "box reaches outside its image"
    if not masks:
        return ""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        size = [image["height"], image["width"]]
        return "" if segmentation.get("size") == size else "mask has another size"
    if not segmentation or any(len(p) < 6 or len(p) % 2 for p in segmentation):
        return "object has no mask"
    return ""


# --- segmentation -----------------------------------------------------------------


def _check_segmentation(
    cfg: Config, settings: Mapping, report: Report, options: Options
) -> BaseDataset:
    dataset = _build(settings, report.name)
    classes = dataset.metainfo.get("classes") or ()
    ignored = (cfg.get("model") or {}).get("decode_head", {}).get("ignore_index", 255)
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    if not samples:
        raise DatasetError(
            f"{report.name}: no image {dataset.img_suffix} in "
            f"{dataset.data_prefix.get('img_path')}"
        )
    load = TRANSFORMS.build({"type": "LoadAnnotations"})

    def look(sample: dict) -> tuple[list[tuple[str, str]], np.ndarray | None]:
        fault, size = _image_fault(sample["img_path"], options.decode)
        faults = [(fault, sample["img_path"])] if fault else []
        path = sample["seg_map_path"]
        fault, map_size = _image_fault(path, decode=True)
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
    for sample, (faults, pixels) in _over(samples, look, options):
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
    _check_num_classes(cfg, report, classes)
    return dataset


def _maps_without_image(dataset: BaseDataset, samples: list[dict]) -> list[Path]:
    """Label maps in the folder that belong to no sample."""
    folder = dataset.data_prefix.get("seg_map_path")
    if dataset.ann_file or not folder:  # a list of names may well leave some out
        return []
    known = {Path(sample["seg_map_path"]) for sample in samples}
    return sorted(set(Path(folder).rglob(f"*{dataset.seg_map_suffix}")) - known)
