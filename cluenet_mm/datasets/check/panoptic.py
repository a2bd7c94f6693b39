"""The check of panoptic labels: the segments of COCO's JSON and those of its PNGs."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from ..panoptic_png import read_panoptic
from .common import Options, Report, box_fault, over


def check_segments(
    dataset: BaseDataset,
    annotations: list[dict],
    images: Mapping[int, dict],
    names: Mapping[int, str],
    report: Report,
    options: Options,
) -> None:
    """Count segments, and note what is wrong with them and their PNGs.

    Args:
        dataset: A ``CocoPanopticDataset``, which need not have been loaded.
        annotations: Those of its file.
        images: The file's images by their id.
        names: Of the file's categories, by their id.
        report: Filled.
        options: How to check; PNGs are always decoded.
    """
    classes = dataset.metainfo["classes"]
    folder = dataset.data_prefix.get("seg") or ""
    numbers, labelled = Counter(), set()
    crowds = 0

    def look(annotation: dict) -> tuple[str, tuple[int, int], set[int]]:
        path = Path(folder, annotation.get("file_name", ""))
        try:
            ids = read_panoptic(str(path))
        except (FileNotFoundError, IsADirectoryError):
            return "file is missing", (0, 0), set()
        except ValueError:
            return "image is damaged", (0, 0), set()
        return "", ids.shape, set(np.unique(ids).tolist())

    for annotation, (fault, size, found) in over(annotations, look, options):
        name = str(annotation.get("file_name"))
        image = images.get(annotation.get("image_id"))
        if image is None:
            where = f"{name} of image {annotation.get('image_id')}"
            report.fault("annotation of an unknown image", where)
            continue
        if Path(image["file_name"]).stem != Path(name).stem:
            where = f"{name} of {image['file_name']}"
            report.fault("labels have another name than their image", where)
        if fault:
            report.fault(fault, Path(folder, name))
        elif size != (image["height"], image["width"]):
            report.fault(
                "labels have another size than their image",
                f"{name}: {size[1]} x {size[0]}, not "
                f"{image['width']} x {image['height']}",
            )
        listed = set()
        for segment in annotation.get("segments_info", []):
            number = segment.get("id")
            where = f"segment {number} in {name}"
            category = names.get(segment.get("category_id"))
            if category not in classes:
                where += f": category {segment.get('category_id')}"
                report.fault("annotation of an unknown category", where)
            elif segment.get("iscrowd"):
                crowds += 1
            else:
                numbers[classes.index(category)] += 1
            if number in listed:
                report.fault("several segments of an image have one id", where)
            listed.add(number)
            if wrong := box_fault(segment, image):
                report.fault(wrong, f"{where}: {segment.get('bbox')}")
            if not fault and number not in found:
                report.fault("segment has no pixels", where)
        for number in sorted(found - listed - {0}):
            report.fault("pixels of an unknown segment", f"segment {number} in {name}")
        if listed:
            labelled.add(image["id"])
    report.unit = "segments"
    report.counts = {
        "images": len(images),
        "images without segments": len(images) - len(labelled),
        "classes": len(classes),
        "segments": sum(numbers.values()),
        "crowd regions": crowds,
    }
    report.count_classes(classes, numbers)
