"""The check of a detector's data set, in COCO's format."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import BaseDataset

from ...config import type_name
from .common import (
    DatasetError,
    Options,
    Report,
    box_fault,
    build,
    check_num_classes,
    data_sets,
    evaluators,
    image_fault,
    over,
)
from .panoptic import check_segments


def check_detection(
    cfg: Config, settings: Mapping, report: Report, options: Options
) -> BaseDataset | None:
    """Fill the report and return the data set, if mmdet can load it."""
    from mmdet.datasets import CocoPanopticDataset

    dataset, path, content = _read_coco(settings, report.name)
    classes = dataset.metainfo.get("classes") or ()
    images = {}
    for image in content["images"]:
        if image["id"] in images:
            report.fault("two images have one id", f"{path}: {image['id']}")
        images[image["id"]] = image
    folder = dataset.data_prefix.get("img", "")

    def look(image: dict) -> tuple[str, tuple[int, int] | None]:
        return image_fault(str(Path(folder, image["file_name"])), options.decode)

    for image, (fault, size) in over(list(images.values()), look, options):
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
    annotations = content["annotations"]
    if isinstance(dataset, CocoPanopticDataset):
        check_segments(dataset, annotations, images, names, report, options)
    else:
        masks = any(
            step.get("with_mask")
            for step in _pipeline_of(cfg, report.name)
            if type_name(step).endswith("LoadAnnotations")
        )
        _check_objects(path, annotations, images, names, classes, masks, report)
    check_num_classes(cfg, report, classes)
    _check_evaluators(cfg, settings, dataset, report)
    try:
        return build(settings, report.name)
    except DatasetError as error:
        report.fault("mmdet cannot load it", error)
        return None


def _check_evaluators(
    cfg: Config, settings: Mapping, dataset: BaseDataset, report: Report
) -> None:
    """Metrics read annotations by paths of their own: are they the data set's?"""
    used = {"ann_file": dataset.ann_file, "seg_prefix": dataset.data_prefix.get("seg")}
    for place, metric in evaluators(cfg, settings):
        for key, path in used.items():
            judged = metric.get(key)
            if (
                judged is None
                or not path
                or Path(judged).resolve() == Path(path).resolve()
            ):
                continue
            where = f"{place}.{key} is {judged}, and the data set reads {path}"
            report.fault("evaluator and data set differ", where)


def _check_objects(
    path: Path,
    annotations: list[dict],
    images: Mapping[int, dict],
    names: Mapping[int, str],
    classes: Sequence[str],
    masks: bool,
    report: Report,
) -> None:
    """Count boxes and masks, and note what is wrong with them."""
    numbers, busy, ids = Counter(), set(), Counter()
    crowds = others = tiny = 0
    for annotation in annotations:
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


def _read_coco(settings: Mapping, name: str) -> tuple[BaseDataset, Path, dict]:
    """The data set, and its annotations as they are before anything is left out."""
    from mmdet.datasets import CocoDataset

    dataset = build({**settings, "lazy_init": True}, name)
    if not isinstance(dataset, CocoDataset):
        raise DatasetError(
            f"{name}: of detection, data sets in COCO's format can be checked, and "
            f"{type_name(settings)} is none"
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
    fault = box_fault(annotation, image)
    if fault or not masks:
        return fault
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        size = [image["height"], image["width"]]
        return "" if segmentation.get("size") == size else "mask has another size"
    if not segmentation or any(len(p) < 6 or len(p) % 2 for p in segmentation):
        return "object has no mask"
    return ""
