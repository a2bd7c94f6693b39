"""Labels and predictions drawn over images, with the visualizers of OpenMMLab."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer

from ..files import atomic_write
from ..tasks import task_of

__all__ = ["build_visualizer", "draw_sample"]

# Labels are illegible on images with a shorter side.
_CLASSIFICATION_SIDE = 224
# The map hides the image with mmseg's 0.8.
_SEGMENTATION_OPACITY = 0.6
# Pixels; the names of the classes would take seconds on larger segmentations.
_LARGEST_WITH_NAMES = 512 * 512


def build_visualizer(cfg: Config, metainfo: Mapping) -> Visualizer:
    """Build the visualizer of a config's task, without its own storage.

    Args:
        cfg: Its ``default_scope`` is the task; options of its ``visualizer`` hold.
        metainfo: ``classes`` and, where there is one, ``palette``.

    Raises:
        ValueError: The config is of no known task.
    """
    task = task_of(cfg)
    scope = task.library
    options = {"alpha": _SEGMENTATION_OPACITY} if scope == "mmseg" else {}
    options |= cfg.get("visualizer") or {}
    for name in ("_scope_", "type", "name", "save_dir", "vis_backends"):
        options.pop(name, None)
    # The registry's build would make it the process's current visualizer.
    visualizer = VISUALIZERS.get(task.visualizer)(**options)
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
        labels: Whether to draw what the dataset says.
        predictions: Whether to draw what the model says; beside the labels if both.
        score_thr: Instances with a lower score are left out.

    Raises:
        WriteError: The picture cannot be written.
    """
    if not is_main_process():  # in which the visualizers draw nothing
        return
    sample = sample.cpu()
    if "pred_panoptic_seg" in sample and _is_empty(sample, visualizer):
        del sample.pred_panoptic_seg  # mmdet cannot draw no segments
    options = {"draw_gt": labels, "draw_pred": predictions, "name": path.stem}
    with atomic_write(path) as temporary:
        options["out_file"] = str(temporary)
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


def _is_empty(sample: BaseDataElement, visualizer: Visualizer) -> bool:
    """Whether a panoptic prediction holds nothing but pixels without a segment."""
    nothing = len(visualizer.dataset_meta["classes"])
    return bool((sample.pred_panoptic_seg.sem_seg == nothing).all())
