"""COCO's annotations judged by their JSON alone, before pycocotools reads them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .common import MAX_PIXELS, DatasetError, Report
from .shapes import box_fault, is_number, mask_fault

__all__ = [
    "judge_categories",
    "judge_images",
    "judge_objects",
    "judge_segments",
    "lookup",
    "read_json",
]

_SHOWN_NAMES = 20


def read_json(path: Path, name: str, labeled: bool = True) -> dict[str, list[dict]]:
    """Read the lists of an annotation file.

    Args:
        path: The file.
        name: What the dataset is called in errors.
        labeled: Whether there must be annotations; a test split may have none.

    Raises:
        DatasetError: It is missing, not JSON, or lacks a list or keys of an entry.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"cannot read {name}: {path} does not exist. docs/data.md describes the "
            "layouts"
        ) from None
    except (RecursionError, ValueError) as error:
        raise DatasetError(f"cannot read {name}: {path} is not JSON: {error}") from None
    wanted = {
        "images": {"id", "file_name", "width", "height"},
        "annotations": set(),
        "categories": {"id", "name"},
    }
    if not labeled and isinstance(content, dict):
        content.setdefault("annotations", [])
    for key, needs in wanted.items():
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list):
            raise DatasetError(f"cannot read {name}: {path} has no list {key!r}")
        for item in items:
            if not isinstance(item, dict):
                raise DatasetError(
                    f"cannot read {name}: {path}: one of {key!r} is {item!r}"
                )
            if not needs <= item.keys():
                raise DatasetError(
                    f"cannot read {name}: {path}: one of {key!r} lacks "
                    f"{', '.join(sorted(needs))}"
                )
    return content


def lookup(table: Mapping, key: Any) -> Any:
    """``table.get(key)``; None, too, for a key that no table can have."""
    try:
        return table.get(key)
    except TypeError:
        return None


def judge_images(items: list[dict], report: Report) -> dict[Any, dict]:
    """Note images that cannot be used.

    Returns:
        The others by their id.
    """
    images = {}
    for image in items:
        number, size = image["id"], (image["width"], image["height"])
        if not isinstance(number, int | str):
            report.fault("image has no valid id", number)
        elif not _is_file_name(image["file_name"]):
            where = f"image {number}: {image['file_name']!r}"
            report.fault("image has no valid file name", where)
        elif not all(map(_is_positive, size)) or size[0] * size[1] > MAX_PIXELS:
            where = f"image {number}: {size[0]!r} x {size[1]!r}"
            report.fault("image has no valid size", where)
        else:
            if number in images:
                report.fault("two images have one id", number)
            images[number] = image
    if not items:
        report.fault("there are no images", report.source)
    return images


def judge_categories(
    items: list[dict], classes: Sequence[str], report: Report, by_position: bool
) -> dict[Any, str]:
    """Compare the names of a config's classes with those of the file.

    Args:
        items: Categories of the file.
        classes: Names in the config.
        report: Filled.
        by_position: Whether label ``i`` is the file's ``i``-th category with one of
            the names, as in mmdet's ``CocoDataset``.

    Returns:
        Names by the ids of the categories.
    """
    names = {}
    for item in items:
        number, name = item["id"], item["name"]
        if not isinstance(number, int | str) or not isinstance(name, str):
            report.fault("category has no valid id or name", f"{number!r}: {name!r}")
        elif number in names:
            report.fault("two categories have one id", f"{number}: {name}")
        else:
            names[number] = name
    if isinstance(classes, str):
        report.fault("classes are a text", repr(classes))
        return names
    there = [name for name in names.values() if name in classes]
    twice = [name for name, uses in Counter(there).items() if uses > 1]
    for name in twice:
        report.fault("two categories have one name", name)
    missing = [name for name in classes if name not in there]
    for name in missing:
        near = get_close_matches(str(name).lower(), map(str.lower, names.values()), 1)
        nearest = [n for n in names.values() if n.lower() in near]
        where = f"{name}; the file has {_listed(list(names.values()))}"
        where += f"; the nearest is {nearest[0]}" if nearest else ""
        report.fault("class of the config is not in the annotations", where)
    if by_position and not twice and not missing and there != list(classes):
        where = f"config: {', '.join(classes)}; file: {', '.join(there)}"
        report.fault("classes have another order than the annotations", where)
    return names


def judge_objects(
    annotations: list[dict],
    images: Mapping[Any, dict],
    names: Mapping[Any, str],
    classes: Sequence[str],
    masks: bool,
    report: Report,
    labeled: bool = True,
) -> None:
    """Count boxes and masks, and note what is wrong with them.

    Args:
        annotations: Of objects.
        images: By their ids.
        names: Of categories, by their ids.
        classes: Names in the config; objects of others are counted alone.
        masks: Whether masks are read.
        report: Filled.
        labeled: Whether there must be objects.
    """
    numbers, busy, ids = Counter(), set(), Counter()
    crowds = others = tiny = 0
    labels = {name: label for label, name in enumerate(classes)}
    for annotation in annotations:
        number = annotation.get("id")
        where = f"annotation {number}"
        if isinstance(number, int | str):
            ids[number] += 1
        else:
            report.fault("annotation has no valid id", where)
        image = lookup(images, annotation.get("image_id"))
        if image is None:
            where += f" of image {annotation.get('image_id')}"
            report.fault("annotation of an unknown image", where)
            continue
        name = lookup(names, annotation.get("category_id"))
        if name is None:
            where += f": category {annotation.get('category_id')}"
            report.fault("annotation of an unknown category", where)
            continue
        if name not in labels:
            others += 1
            continue
        fault = box_fault(annotation, image)
        if fault:
            where += f" in {image['file_name']}: {annotation.get('bbox')}"
        elif masks and (fault := mask_fault(annotation.get("segmentation"), image)):
            where += (
                f" in {image['file_name']}: {_short(annotation.get('segmentation'))}"
            )
        if fault:
            report.fault(fault, where)
        elif min(annotation["bbox"][2:]) < 1:
            tiny += 1
        busy.add(image["id"])
        # pycocotools needs it in evaluations.
        default = 0 if report.name.startswith("train") else None
        if annotation.get("iscrowd", default) not in (0, 1):
            report.fault("iscrowd is not 0 or 1", where)
        elif annotation.get("iscrowd"):
            crowds += 1
        else:
            numbers[labels[name]] += 1
    for number, uses in ids.items():
        if uses > 1:
            report.fault("several annotations have one id", number)
    if labeled and not numbers:
        report.fault("there are no objects of the classes", report.source)
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


def judge_segments(
    annotations: list[dict],
    images: Mapping[Any, dict],
    names: Mapping[Any, str],
    classes: Sequence[str],
    report: Report,
) -> list[tuple[dict, dict, set]]:
    """Count segments of panoptic annotations, and note what is wrong with them.

    Returns:
        Annotation, its image and the ids of its segments, for annotations that belong
        to an image.
    """
    numbers, labeled, kept = Counter(), set(), []
    crowds = 0
    labels = {name: label for label, name in enumerate(classes)}
    for annotation in annotations:
        name = str(annotation.get("file_name"))
        image = lookup(images, annotation.get("image_id"))
        if image is None:
            where = f"{name} of image {annotation.get('image_id')}"
            report.fault("annotation of an unknown image", where)
            continue
        if Path(image["file_name"]).stem != Path(name).stem:
            where = f"{name} of {image['file_name']}"
            report.fault("labels have another name than their image", where)
        segments, listed = annotation.get("segments_info"), set()
        if not isinstance(segments, list) or not all(
            isinstance(segment, dict) for segment in segments
        ):
            report.fault("segments are not a list", f"{name}: {_short(segments)}")
            segments = []
        for segment in segments:
            number = segment.get("id")
            where = f"segment {number} in {name}"
            category = lookup(names, segment.get("category_id"))
            if category not in labels:
                where += f": category {segment.get('category_id')}"
                report.fault("annotation of an unknown category", where)
            elif segment.get("iscrowd"):
                crowds += 1
            else:
                numbers[labels[category]] += 1
            if not isinstance(number, int):
                report.fault("annotation has no valid id", where)
                continue
            if number in listed:
                report.fault("several segments of an image have one id", where)
            listed.add(number)
            if wrong := box_fault(segment, image):
                report.fault(wrong, f"{where}: {segment.get('bbox')}")
        if listed:
            labeled.add(image["id"])
        kept.append((annotation, image, listed))
    if not numbers:
        report.fault("there are no objects of the classes", report.source)
    report.unit = "segments"
    report.counts = {
        "images": len(images),
        "images without segments": len(images) - len(labeled),
        "classes": len(classes),
        "segments": sum(numbers.values()),
        "crowd regions": crowds,
    }
    report.count_classes(classes, numbers)
    return kept


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _listed(names: Sequence[str]) -> str:
    """Names, of many the first."""
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and Path(value).name != ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:76]} ..."
