"""Panoptic quality as COCO computes it, without the package panopticapi."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.fileio import join_path, load
from mmengine.logging import print_log

from ..datasets.panoptic_png import read_panoptic, write_panoptic
from ..files import path_inside, write_text
from ..registry import METRICS
from .segments import Segmentation, count_matches, quality

NAMES = ("PQ", "SQ", "RQ")


@METRICS.register_module()
class PanopticQuality(BaseMetric):
    """Panoptic, segmentation and recognition quality (PQ, SQ, RQ) in per cent.

    A drop-in for mmdet's ``CocoPanopticMetric``, with its keys: ``coco_panoptic/PQ``,
    ``SQ`` and ``RQ`` are means over the classes, ``PQ_th`` and so on over the things,
    ``PQ_st`` over the stuff. Classes of which no segment is there or predicted take no
    part, and a mean over no class is left out. See :func:`count_matches` for the rules.

    Args:
        ann_file: COCO's panoptic annotations (JSON).
        seg_prefix: Folder of their PNGs; needed unless ``format_only``.
        classwise: Whether to print every class.
        format_only: Whether to write the predictions and not judge them.
        outfile_prefix: Write predictions in COCO's format, ``{prefix}.panoptic.json``
            and the folder ``{prefix}.panoptic`` of PNGs.
        backend_args: Options of MMEngine's file backend.
        collect_device: ``"cpu"`` or ``"gpu"``, where processes gather results.
        prefix: Of the keys, in place of ``coco_panoptic``.

    Raises:
        ValueError: ``format_only`` without ``outfile_prefix``, or neither it nor
            ``seg_prefix`` is set.
    """

    default_prefix = "coco_panoptic"

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str | None = None,
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        backend_args: dict | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if format_only and outfile_prefix is None:
            raise ValueError("PanopticQuality: format_only needs outfile_prefix")
        if not format_only and seg_prefix is None:
            raise ValueError(
                "PanopticQuality: seg_prefix, the folder of PNGs, is not set"
            )
        self.ann_file = ann_file
        self.seg_prefix = seg_prefix
        self.classwise = classwise
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.backend_args = backend_args
        # Read when they are needed: the dataset may make them.
        self._images = self._truths = self._categories = None

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Compare predictions of a batch, and write them if asked to.

        Args:
            data_batch: Not used.
            data_samples: With ``img_id`` and ``pred_panoptic_seg``, whose ``sem_seg``
                is ``(1, H, W)`` int: the class plus ``INSTANCE_OFFSET`` times the
                number of the instance, and the number of classes where nothing is.

        Raises:
            ValueError: Prediction and annotations do not belong together.
        """
        if self._images is None:
            self._read_annotations()
        for sample in data_samples:
            image = sample["img_id"]
            if image not in self._images:
                raise ValueError(f"{self.ann_file} has no image with the id {image}")
            prediction = self._prediction(sample)
            counts = written = None
            if not self.format_only:
                counts = self._compare(image, prediction)
            if self.outfile_prefix is not None:
                written = self._write(image, prediction)
            self.results.append((counts, written))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Means over the classes from what all processes have counted."""
        if self.outfile_prefix is not None:
            annotations = [written for _, written in results]
            path = f"{self.outfile_prefix}.panoptic.json"
            write_text(path, json.dumps({"annotations": annotations}))
        if self.format_only:
            return {}
        qualities = 100 * quality(sum(counts for counts, _ in results))
        seen = ~np.isnan(qualities[:, 0])
        things = np.array([bool(c["isthing"]) for c in self._categories])
        metrics, rows = {}, []
        for name, suffix, chosen in (
            ("all", "", seen),
            ("things", "_th", seen & things),
            ("stuff", "_st", seen & ~things),
        ):
            if chosen.any():
                mean = qualities[chosen].mean(0).tolist()
                metrics |= {n + suffix: v for n, v in zip(NAMES, mean, strict=True)}
                rows.append((f"{name} ({chosen.sum()} classes)", mean))
        if self.classwise:
            names = (category["name"] for category in self._categories)
            rows += zip(names, qualities, strict=True)
        print_log("Panoptic quality in per cent\n" + _table(rows), "current")
        return metrics

    def _read_annotations(self) -> None:
        content = load(self.ann_file, backend_args=self.backend_args)
        classes = tuple(self.dataset_meta["classes"])
        self._categories = [c for c in content["categories"] if c["name"] in classes]
        # mmdet's dataset gives out labels in the order of the file.
        names = tuple(category["name"] for category in self._categories)
        if names != classes:
            raise ValueError(
                f"the categories of {self.ann_file} are not the classes of the data "
                f"set in their order: {_difference(names, classes)}"
            )
        self._labels = {c["id"]: label for label, c in enumerate(self._categories)}
        self._images = {i["id"]: i["file_name"] for i in content["images"]}
        self._truths = {a["image_id"]: a for a in content.get("annotations", [])}

    def _prediction(self, sample: Mapping) -> Segmentation:
        image = sample["img_id"]
        if "pred_panoptic_seg" not in sample:
            raise ValueError(
                "PanopticQuality: the model predicts no pred_panoptic_seg "
                f"(image {image})"
            )
        predicted = sample["pred_panoptic_seg"]
        nothing = len(self.dataset_meta["classes"])
        prediction = Segmentation.from_codes(
            torch.as_tensor(predicted["sem_seg"]).cpu().numpy()[0],
            {nothing, predicted.get("ignore_index", nothing)},
        )
        largest = prediction.labels.max(initial=0)
        if largest > nothing:
            raise ValueError(
                f"class {largest} is predicted in image {image}, and the dataset has "
                f"{nothing} classes"
            )
        return prediction

    def _compare(self, image: int, prediction: Segmentation) -> np.ndarray:
        if image not in self._truths:
            raise ValueError(f"{self.ann_file} has no segments of the image {image}")
        truth = self._truths[image]
        path = join_path(self.seg_prefix, truth["file_name"])
        ids = read_panoptic(path, self.backend_args)
        if ids.shape != prediction.index.shape:
            raise ValueError(
                f"the prediction for {path} has the shape {prediction.index.shape} and "
                f"not {ids.shape}: predictions are compared at the original size"
            )
        segments = truth["segments_info"]
        return count_matches(
            Segmentation.from_ids(
                ids,
                [segment["id"] for segment in segments],
                [self._labels[segment["category_id"]] for segment in segments],
                [segment.get("iscrowd", 0) for segment in segments],
            ),
            prediction,
            len(self._categories),
        )

    def _write(self, image: int, prediction: Segmentation) -> dict:
        """Write one PNG; 0 is where nothing is, segments count from 1."""
        ids, number = prediction.ids(), len(prediction.labels)
        folder = Path(f"{self.outfile_prefix}.panoptic")
        path = path_inside(folder, self._images[image]).with_suffix(".png")
        write_panoptic(path, ids)
        areas = np.bincount(ids.ravel(), minlength=number + 1)[1:].tolist()
        segments = [
            {
                "id": position + 1,
                "category_id": self._categories[label]["id"],
                "area": areas[position],
            }
            for position, label in enumerate(prediction.labels)
        ]
        name = path.relative_to(folder).as_posix()
        return {"image_id": image, "file_name": name, "segments_info": segments}


def _difference(names: Sequence[str], classes: Sequence[str]) -> str:
    missing = [name for name in classes if name not in names]
    if missing:
        return f"{missing[0]!r} is missing"
    pairs = zip(names, classes, strict=False)
    found, wanted = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return f"{found!r} stands where {wanted!r} should"


def _table(rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    lines = [" " * width + "".join(f"{name:>9}" for name in NAMES)]
    for name, values in rows:
        cells = ("-" if np.isnan(value) else f"{value:.3f}" for value in values)
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)
