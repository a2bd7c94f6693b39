"""Labels and predictions drawn over images, with the visualizers of OpenMMLab."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import VISUALIZERS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer

from ..registry import HOOKS

VISUALIZER_TYPES = {
    "mmpretrain": "mmpretrain.UniversalVisualizer",
    "mmdet": "mmdet.DetLocalVisualizer",
    "mmseg": "mmseg.SegLocalVisualizer",
}
# Labels are illegible on images with a shorter side.
_CLASSIFICATION_SIDE = 224
# The map hides the image with mmseg's 0.8.
_SEGMENTATION_OPACITY = 0.6
# Pixels; the names of the classes would take seconds on larger segmentations.
_LARGEST_WITH_NAMES = 512 * 512


def build_visualizer(cfg: Config, metainfo: Mapping) -> Visualizer:
    """Build the visualizer of a config's task, without storage of its own.

    Args:
        cfg: Its ``default_scope`` is the task; options of its ``visualizer`` hold.
        metainfo: ``classes`` and, where there is one, ``palette``.

    Raises:
        ValueError: The scope is none of mmpretrain, mmdet and mmseg.
    """
    scope = cfg.get("default_scope")
    if scope not in VISUALIZER_TYPES:
        raise ValueError(
            f"drawing needs default_scope = {' or '.join(map(repr, VISUALIZER_TYPES))} "
            f"in the config, not {scope!r}"
        )
    options = {"alpha": _SEGMENTATION_OPACITY} if scope == "mmseg" else {}
    options |= cfg.get("visualizer") or {}
    for name in ("_scope_", "type", "name", "save_dir", "vis_backends"):
        options.pop(name, None)
    # The registry's build would make it the process's current visualizer.
    visualizer = VISUALIZERS.get(VISUALIZER_TYPES[scope])(**options)
    classes, palette = metainfo.get("classes"), metainfo.get("palette")
    if palette is None and scope == "mmdet":
        palette = "random"  # by the label: the same in every picture
    if palette is None and scope == "mmseg":
        palette = np.random.default_rng(0).integers(0, 256, (len(classes), 3)).tolist()
    visualizer.dataset_meta = {"classes": classes, "palette": palette}
    return visualizer


def draw_sample(
    visualizer: Visualizer,
    image: np.ndarray,
    sample: BaseDataElement,
    path: Path,
    labels: bool = True,
    predictions: bool = True,
    score_thr: float = 0.3,
) -> None:
    """Draw one sample and write the picture; the file is complete or untouched.

    Args:
        visualizer: From :func:`build_visualizer`.
        image: ``(H, W, 3)`` uint8, RGB, of the size that the sample is about.
        sample: Data sample of one of OpenMMLab's three libraries.
        path: A ``.png`` or ``.jpg``; its folder is made.
        labels: Whether to draw what the data set says.
        predictions: Whether to draw what the model says; beside the labels if both.
        score_thr: Instances with a lower score are left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    sample = sample.cpu()
    if "pred_panoptic_seg" in sample and _is_empty(sample, visualizer):
        del sample.pred_panoptic_seg  # mmdet cannot draw no segments
    options = {
        "draw_gt": labels,
        "draw_pred": predictions,
        "out_file": str(partial),
        "name": path.stem,
    }
    try:
        if hasattr(visualizer, "visualize_cls"):
            side = max(min(image.shape[:2]), _CLASSIFICATION_SIDE)
            visualizer.visualize_cls(image, sample, resize=side, **options)
        elif type(visualizer).__module__.startswith("mmseg."):
            names = image.shape[0] * image.shape[1] <= _LARGEST_WITH_NAMES
            visualizer.add_datasample(
                image=image, data_sample=sample, with_labels=names, **options
            )
        else:
            visualizer.add_datasample(
                image=image, data_sample=sample, pred_score_thr=score_thr, **options
            )
        if partial.exists():  # only the first of several processes draws
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _is_empty(sample: BaseDataElement, visualizer: Visualizer) -> bool:
    """Whether a panoptic prediction holds nothing but pixels without a segment."""
    nothing = len(visualizer.dataset_meta["classes"])
    return bool((sample.pred_panoptic_seg.sem_seg == nothing).all())


class UnreadableImageError(ValueError):
    """A file that is no image, or a damaged one."""


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file to ``(H, W, 3)`` uint8, RGB.

    Raises:
        UnreadableImageError: It cannot be decoded.
    """
    try:
        image = mmcv.imread(str(path))
    except cv2.error:  # of an empty file
        image = None
    if image is None:
        raise UnreadableImageError(f"{path} cannot be decoded")
    return mmcv.bgr2rgb(image)


def relative_name(path: str, folders: Sequence[str]) -> Path:
    """Path of an image below the first folder that holds it, else its bare name."""
    for folder in folders:
        if folder and Path(path).is_relative_to(folder):
            return Path(path).relative_to(folder)
    return Path(Path(path).name)


@HOOKS.register_module()
class DrawPredictionsHook(Hook):
    """Draw every tested image with its labels and predictions, whatever the task.

    In place of the libraries' own hooks, whose pictures lie in different places, with
    red and blue exchanged in classification, and overwrite each other where classes
    have files of the same name.

    OpenMMLab's visualizers draw in the first process only; of a distributed test
    these are its share of the images.

    Args:
        out_dir: Folder for the pictures, which have the names that the images have
            below the data set's folder, with ``.png`` for their suffix.
        score_thr: Instances with a lower score are left out.
    """

    def __init__(self, out_dir: str, score_thr: float = 0.3) -> None:
        self.out_dir = Path(out_dir)
        self.score_thr = score_thr
        self._visualizer: Visualizer | None = None
        self._folders: list[str] = []
        self._count = 0

    def before_test(self, runner: Runner) -> None:
        """Build the visualizer for the classes of the data set."""
        dataset = runner.test_dataloader.dataset
        self._visualizer = build_visualizer(runner.cfg, dataset.metainfo)
        self._folders = [
            folder
            for folder in (getattr(dataset, "data_prefix", None) or {}).values()
            if isinstance(folder, str)
        ]
        self._count = 0

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw one batch."""
        for position, sample in enumerate(outputs):
            path = sample.get("img_path")
            if path is not None:
                image = read_image(path)
                name = relative_name(path, self._folders)
            else:  # a data set in memory
                image = _input_image(runner.model, data_batch["inputs"], position)
                name = Path(f"{sample.get('sample_idx', self._count):06d}")
            self._count += 1
            draw_sample(
                self._visualizer,
                image,
                sample,
                self.out_dir / name.with_suffix(".png"),
                score_thr=self.score_thr,
            )


def _input_image(model: torch.nn.Module, inputs: Sequence, position: int) -> np.ndarray:
    """An image of the batch as RGB, the first view in test-time augmentation."""
    while not isinstance(inputs, torch.Tensor) and not torch.is_tensor(inputs[0]):
        inputs = inputs[0]
    while hasattr(model, "module"):
        model = model.module
    image = inputs[position].permute(1, 2, 0).cpu().numpy().astype(np.uint8)
    return image[..., ::-1] if getattr(model.data_preprocessor, "to_rgb", 0) else image
