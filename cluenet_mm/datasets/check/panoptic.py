"""The check of panoptic labels: the segments of COCO's JSON against their PNGs."""

from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from ..panoptic_png import read_panoptic
from .common import Options, Report, over


def check_maps(
    dataset: BaseDataset,
    segments: list[tuple[dict, dict, set]],
    report: Report,
    options: Options,
) -> None:
    """Note what is wrong with the PNGs of segments.

    Args:
        dataset: A ``CocoPanopticDataset``, which need not have been loaded.
        segments: From :func:`~cluenet_mm.datasets.check.coco.judge_segments`.
        report: Filled.
        options: How to check; PNGs are always decoded.
    """
    folder = dataset.data_prefix.get("seg") or ""

    def look(entry: tuple) -> tuple[str, tuple[int, int], set[int]]:
        path = Path(folder, str(entry[0].get("file_name", "")))
        try:
            ids = read_panoptic(str(path))
        except (FileNotFoundError, IsADirectoryError):
            return "file is missing", (0, 0), set()
        except ValueError:
            return "image is damaged", (0, 0), set()
        return "", ids.shape, set(np.unique(ids).tolist())

    for entry, (fault, size, found) in over(segments, look, options):
        annotation, image, listed = entry
        name = str(annotation.get("file_name"))
        if fault:
            report.fault(fault, Path(folder, name))
            continue
        if size != (image["height"], image["width"]):
            report.fault(
                "labels have another size than their image",
                f"{name}: {size[1]} x {size[0]}, not "
                f"{image['width']} x {image['height']}",
            )
        for number in sorted(listed - found):
            where = f"segment {number} in {name}"
            report.fault("segment has no pixels", where)
        for number in sorted(found - listed - {0}):
            report.fault("pixels of an unknown segment", f"segment {number} in {name}")
