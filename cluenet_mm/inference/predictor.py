"""Predictions for image files, by the inferencers of OpenMMLab, as plain records."""

import hashlib
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from mmengine.structures import BaseDataElement

from ..building import building
from ..checkpoint import (
    checkpoint_file,
    dataset_meta,
    load_checkpoint,
    load_weights,
)
from ..config import inner_datasets, num_classes, type_name, with_type_name
from ..errors import warn
from ..tasks import task_of
from .draw import build_visualizer, draw_sample
from .images import MAX_PIXELS, limit_pixels, read_image
from .model import initialize

__all__ = ["Predictor", "fingerprint", "label_map"]

# Of an image that a classifier's pipeline does not resize: more than CIFAR's 32 x 32,
# for which such pipelines are made, by far.
_LARGE = 128 * 128


class Predictor:
    """A model of one of the three tasks, ready for image files.

    Args:
        cfg: Config; its ``default_scope`` is the task. Images go through the pipeline
            of its ``test_dataloader``.
        checkpoint: Weights of exactly that model, or None for those that a training
            would begin with. The names of the classes are those in the checkpoint, else
            those of the config's dataset.
        device: Where the model runs; by default on a GPU if there is one.
        max_pixels: What a classifier sees of an image that its pipeline leaves larger
            is resized to so many pixels, with a warning. The pipelines of detectors
            and segmentors decide alone.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        CheckpointError: It cannot be read, or holds other weights.
        ValueError: The config is of no known task, or cannot test.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str | None,
        device: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._max_pixels, self._warned = max_pixels, False
        self._task = task_of(cfg)
        self.scope = self._task.library
        if not cfg.get("test_dataloader"):
            raise ValueError(
                "cannot predict: the config has no test_dataloader. Add one; its "
                "pipeline prepares the images"
            )
        init_default_scope(self.scope)
        cfg = cfg.copy()
        # The inferencers look for types by their names.
        inner = inner_datasets(cfg.test_dataloader.dataset)[0]
        dataset = with_type_name(inner, DATASETS)
        dataset["pipeline"] = [
            with_type_name(step, TRANSFORMS) for step in inner.get("pipeline", [])
        ]
        cfg.test_dataloader.dataset = dataset
        self._dataset = cfg.test_dataloader.dataset
        loaded = {} if checkpoint is None else load_checkpoint(checkpoint)
        self.metainfo = _metainfo(loaded, self._dataset)
        self._inferencer = self._build(cfg, device or get_device())
        model = self._inferencer.model
        if checkpoint is None:
            initialize(model)
        else:
            load_weights(model, loaded, checkpoint)
        self._load = self._image_loader(model)
        self._visualizer = build_visualizer(cfg, self._drawing_metainfo())

    @property
    def model(self) -> torch.nn.Module:
        """The model, with its weights, in evaluation mode."""
        return self._inferencer.model

    def __call__(self, path: str | Path) -> tuple[BaseDataElement, np.ndarray]:
        """Predict for one file.

        Returns:
            The data sample of the model, on the CPU, and the image as ``(H, W, 3)``
            uint8, RGB.

        Raises:
            UnreadableImageError: The file cannot be decoded.
        """
        path = str(path)
        image = read_image(path)
        loaded = self._load(path)
        data = self._preprocess(loaded)
        self._warn_unsized(data, path)
        if self.scope == "mmpretrain" and _pixels(data) > self._max_pixels:
            data = self._preprocess(limit_pixels(loaded, self._max_pixels, path))
        return self._inferencer.forward(data)[0].cpu(), image

    def _warn_unsized(self, data: Mapping, path: str) -> None:
        """Say once that a pipeline for small images leaves large ones as they are."""
        if self._warned or self.scope != "mmpretrain" or _pixels(data) <= _LARGE:
            return
        names = [type_name(step) for step in self._dataset.pipeline]
        if not any("Resize" in name or "Crop" in name for name in names):
            self._warned = True
            print(file=sys.stderr)  # a progress bar leaves its line open
            warn(
                f"the test pipeline of this config does not resize {path}: classes may "
                "be wrong, and large images take long. Resize images to the size of "
                "the training, or add Resize to test_dataloader.dataset.pipeline"
            )

    def _preprocess(self, loaded: str | np.ndarray) -> dict:
        data = next(iter(self._inferencer.preprocess([loaded])))
        return data[1] if self.scope == "mmdet" else data  # mmdet: (input, data)

    def record(self, sample: BaseDataElement) -> dict[str, Any]:
        """What was predicted, ready for JSON.

        Args:
            sample: From calling the predictor.

        Returns:
            ``label``, ``class``, ``score`` and the ``scores`` of all classes; or
            ``size`` (height, width) and ``instances``, each with ``label``, ``class``,
            ``score``, ``bbox`` (x1, y1, x2, y2) and, of a model with masks,
            ``segmentation`` (COCO's run-length encoding); or ``size`` and ``segments``,
            each with ``id`` (see :meth:`panoptic_segments`), ``label``, ``class`` and
            ``pixels``; or ``size`` and ``classes`` with the ``pixels`` of every class
            that was found.
        """
        if self.scope == "mmpretrain":
            scores = sample.pred_score
            label = int(scores.argmax())
            return {
                "label": label,
                "class": self.class_name(label),
                "score": float(scores[label]),
                "scores": scores.tolist(),
            }
        size = list(sample.ori_shape[:2])
        if "pred_panoptic_seg" in sample:
            return {"size": size, "segments": self._segments(sample)}
        if self.scope == "mmdet":
            return {"size": size, "instances": self._instances(sample.pred_instances)}
        labels, counts = np.unique(label_map(sample), return_counts=True)
        return {
            "size": size,
            "classes": [
                {"label": label, "class": self.class_name(label), "pixels": count}
                for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
            ],
        }

    def panoptic_segments(
        self, sample: BaseDataElement
    ) -> tuple[np.ndarray, list[int]]:
        """Segments of a panoptic prediction.

        Returns:
            Ids ``(H, W)`` int64, counted from 1, 0 for no segment; and the label of
            each segment.
        """
        from ..evaluation.segments import Segmentation  # mmdet's, as the sample

        predicted = sample.pred_panoptic_seg.sem_seg[0].numpy()
        found = Segmentation.from_codes(predicted, {self._num_classes()})
        return found.ids(), found.labels.tolist()

    def _segments(self, sample: BaseDataElement) -> list[dict]:
        ids, labels = self.panoptic_segments(sample)
        counts = np.bincount(ids.ravel(), minlength=len(labels) + 1)[1:]
        return [
            {"id": i, "label": label, "class": self.class_name(label), "pixels": count}
            for i, (label, count) in enumerate(
                zip(labels, counts.tolist(), strict=True), start=1
            )
        ]

    def draw(
        self,
        image: np.ndarray,
        sample: BaseDataElement,
        path: Path,
        score_thr: float = 0.3,
    ) -> None:
        """Draw a prediction; see :func:`cluenet_mm.inference.draw.draw_sample`."""
        draw_sample(
            self._visualizer, image, sample, path, labels=False, score_thr=score_thr
        )

    def class_name(self, label: int) -> str:
        """Name of a class, or its number where nothing names it."""
        classes = self.metainfo.get("classes") or ()
        return str(classes[label]) if label < len(classes) else str(label)

    def _build(self, cfg: Config, device: str) -> Any:
        kind = self._task.load("inferencer")
        with warnings.catch_warnings(), building(cfg):
            # About missing weights and class names: both are set below.
            warnings.simplefilter("ignore", UserWarning)
            if self.scope == "mmpretrain":
                return kind(cfg, pretrained=False, device=device)
            cfg.setdefault("visualizer", {"type": self._task.visualizer})
            return kind(cfg, weights=None, device=device)

    def _image_loader(self, model: torch.nn.Module) -> Any:
        """A function from a path to what the inferencer takes.

        mmpretrain's inferencer reads files in its own way; here the pipeline's step
        does, so that predictions are those of a test.
        """
        if self.scope != "mmpretrain":
            return str
        for step in self._dataset.pipeline:
            if type_name(step) == "LoadImageFromFile":
                load = TRANSFORMS.build(step)
                return lambda path: load({"img_path": path})["img"]
        # A dataset in memory: its images are in the order that the model expects.
        bgr = getattr(model.data_preprocessor, "to_rgb", False)
        order = "bgr" if bgr else "rgb"
        return lambda path: mmcv.imread(path, channel_order=order)

    def _num_classes(self) -> int:
        """Classes of the model's head, or those that are named."""
        named = self.metainfo.get("classes") or ()
        return num_classes(self.model) or len(named)

    def _drawing_metainfo(self) -> dict:
        """Classes and palette, a name for every label that the model can predict."""
        count = self._num_classes()
        classes = tuple(self.class_name(label) for label in range(count))
        palette = self.metainfo.get("palette")
        if palette is not None and len(palette) < count:
            palette = None
        return {"classes": classes, "palette": palette}

    def _instances(self, found: BaseDataElement) -> list[dict]:
        records = [
            {
                "label": label,
                "class": self.class_name(label),
                "score": score,
                "bbox": bbox,
            }
            for label, score, bbox in zip(
                found.labels.tolist(),
                found.scores.tolist(),
                found.bboxes.tolist(),
                strict=True,
            )
        ]
        if "masks" in found:
            from mmdet.structures.mask import encode_mask_results

            masks = encode_mask_results(np.asarray(found.masks))
            for record, mask in zip(records, masks, strict=True):
                record["segmentation"] = mask | {"counts": mask["counts"].decode()}
        return records


def _pixels(data: Mapping) -> int:
    """Of the largest image in a batch of a classifier."""
    return max(image.shape[-2] * image.shape[-1] for image in data["inputs"])


def label_map(sample: BaseDataElement) -> np.ndarray:
    """Labels of a segmentation, ``(H, W)``: uint8, or uint16 of many classes."""
    labels = sample.pred_sem_seg.data[0].numpy()
    return labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)


def fingerprint(cfg: Config, checkpoint: str | Path, *options: object) -> str:
    """Short digest of all that a prediction depends on, besides the image."""
    digest = hashlib.sha256(checkpoint_file(checkpoint).read_bytes())
    settings = json.dumps([cfg.to_dict(), *options], default=str, sort_keys=True)
    digest.update(settings.encode())
    return digest.hexdigest()[:16]


def _metainfo(checkpoint: Mapping, dataset: Mapping) -> dict:
    """Names of the classes and palette, of the checkpoint before the config."""
    with DATASETS.switch_scope_and_registry(None) as registry:
        kind = registry.get(dataset["type"])
    found = dict(getattr(kind, "METAINFO", {})) | dict(dataset.get("metainfo") or {})
    if isinstance(dataset.get("classes"), list | tuple):
        found["classes"] = dataset["classes"]
    return found | dataset_meta(checkpoint)
