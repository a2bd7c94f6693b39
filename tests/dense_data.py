"""A handful of awkward images with annotations, and configs of small real models.

Two classes: bright ellipses and rectangles. Every image has another size; one is
grayscale, one is empty, one has an object of one pixel, one a crowd in run-length
encoding.
"""

import io
import json
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.utils import ManagerMixin
from mmengine.visualization import Visualizer

from cluenet_mm import config_path, tool_path
from cluenet_mm.checkpoint import save_checkpoint
from cluenet_mm.inference import build_model

CLASSES = ("ellipse", "rectangle")
# Name, height, width, objects as class and box x, y, w, h.
IMAGES = (
    ("scene.png", 64, 96, [(0, (8, 8, 30, 24)), (1, (50, 20, 28, 34))]),
    ("grey.jpg", 70, 50, [(1, (5, 30, 32, 30))]),
    ("empty.png", 40, 64, []),
    ("dot.png", 40, 133, [(0, (70, 5, 30, 30)), (1, (12, 20, 1, 1))]),
    ("wide.jpg", 33, 150, [(0, (20, 4, 24, 26)), (1, (100, 6, 20, 20))]),
)
CROWDED = "grey.jpg"
IGNORED = 255


def write(folder: Path) -> Path:
    """Images, COCO annotations and label maps, as ``images``, ``coco.json``, ``maps``.

    Label maps have 0 for the background, the class plus one, and a frame of 255.
    """
    rng = np.random.default_rng(0)
    for name in ("images", "maps"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, (name, height, width, objects) in enumerate(IMAGES, 1):
        pixels = rng.integers(0, 60, (height, width, 3), np.uint8)
        labels = np.zeros((height, width), np.uint8)
        for label, box in objects:
            mask = draw(label, box, (height, width))
            pixels[mask > 0] = (230, 120, 40) if label else (40, 120, 230)
            labels[mask > 0] = label + 1
            annotations.append(annotation(number, label, box))
        if name == CROWDED:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
            annotations.append(crowd(number, height, width))
        labels[:2] = IGNORED
        cv2.imwrite(str(folder / "images" / name), pixels)
        cv2.imwrite(str(folder / "maps" / f"{name}.png"), labels)
        images.append(
            {"id": number, "file_name": name, "height": height, "width": width}
        )
    for number, item in enumerate(annotations, 1):
        item["id"] = number
    categories = [{"id": 7 + i, "name": name} for i, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content))
    (folder / "names.txt").write_text("\n".join(image[0] for image in IMAGES) + "\n")
    return folder


def draw(label: int, box: tuple, size: tuple[int, int]) -> np.ndarray:
    x, y, width, height = box
    mask = np.zeros(size, np.uint8)
    if label == 0:
        center = (x + width // 2, y + height // 2)
        cv2.ellipse(mask, center, (width // 2, height // 2), 0, 0, 360, 1, -1)
    else:
        mask[y : y + height, x : x + width] = 1
    return mask


def annotation(image: int, label: int, box: tuple) -> dict:
    x, y, width, height = box
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {
        "image_id": image,
        "category_id": 7 + label,
        "bbox": list(box),
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [[float(v) for v in corners]],
    }


def crowd(image: int, height: int, width: int) -> dict:
    counts = [0, 5 * height, (width - 5) * height]  # the first five columns
    return {
        "image_id": image,
        "category_id": 7,
        "bbox": [0, 0, 5, height],
        "area": 5 * height,
        "iscrowd": 1,
        "segmentation": {"counts": counts, "size": [height, width]},
    }


DETECTOR = """
_base_ = "{base}"
load = [dict(type="LoadImageFromFile")]
labels = [dict(type="LoadAnnotations", with_bbox=True, with_mask=True)]
data = dict(
    type="CocoDataset", ann_file="coco.json", data_root="{folder}",
    data_prefix=dict(img="images/"), metainfo=dict(classes={classes}))
train_dataloader = dict(batch_size=2, dataset=dict(
    _delete_=True, filter_cfg=dict(filter_empty_gt=False), **data,
    pipeline=load + labels + [dict(type="RandomFlip", prob=0.5),
                              dict(type="PackDetInputs")]))
val_dataloader = dict(batch_size=2, dataset=dict(
    _delete_=True, test_mode=True, **data,
    pipeline=load + [dict(type="Resize", scale_factor=1.0)] + labels + [dict(
        type="PackDetInputs", meta_keys=(
            "img_id", "img_path", "ori_shape", "img_shape", "scale_factor"))]))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="{folder}/coco.json")
test_evaluator = val_evaluator
two = dict(num_classes=2)
model = dict(roi_head=dict(bbox_head=two, mask_head=two))
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best=None))
"""
SEGMENTOR = """
_base_ = "{base}"
load = [dict(type="LoadImageFromFile")]
labels = [dict(type="LoadAnnotations")]
data = dict(
    type="BaseSegDataset", data_root="{folder}", ann_file="names.txt",
    data_prefix=dict(img_path="images", seg_map_path="maps"), img_suffix="",
    metainfo=dict(classes=("background", *{classes}),
                  palette=[[0, 0, 0], [255, 0, 0], [0, 0, 255]]))
train_dataloader = dict(batch_size=2, dataset=dict(
    _delete_=True, **data,
    pipeline=load + labels + [
        dict(type="RandomCrop", crop_size=(64, 64)),
        dict(type="RandomFlip", prob=0.5), dict(type="PackSegInputs")]))
val_dataloader = dict(batch_size=1, dataset=dict(
    _delete_=True, test_mode=True, **data,
    pipeline=load + labels + [dict(type="PackSegInputs")]))
test_dataloader = val_dataloader
model = dict(data_preprocessor=dict(size=(64, 64)), decode_head=dict(num_classes=3))
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=3, save_best=None))
"""


def detector_config(folder: Path, base: str = "cluenet/mask_rcnn_digits.py") -> Path:
    """Config of a Mask R-CNN on the data that :func:`write` put into ``folder``."""
    return _config(folder, base, DETECTOR, "detector")


def segmentor_config(
    folder: Path, base: str = "cluenet/semantic_fpn_digits.py"
) -> Path:
    """Config of a Semantic FPN on the data that :func:`write` put into ``folder``."""
    return _config(folder, base, SEGMENTOR, "segmentor")


def _config(folder: Path, base: str, template: str, name: str) -> Path:
    text = template.format(base=config_path(base), folder=folder, classes=CLASSES)
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


CLASSIFIER = """
_base_ = "{base}"
arch = dict(
    depths=(1, 1), embed_dims=(16, 24), mlp_ratios=(2, 2), num_heads=(1, 2),
    head_dims=8, patch=(3, 2, 1), pool_norm=True)
model = dict(
    backbone=dict(arch=dict(_delete_=True, **arch), cluster_grids=4),
    head=dict(num_classes=2, in_channels=24, topk=(1,)))
data_preprocessor = dict(num_classes=2)
val_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    data_root="{folder}", data_prefix="classes",
    metainfo=dict(classes=("blue", "orange"))))
test_dataloader = val_dataloader
"""


def classifier_config(folder: Path) -> Path:
    """Config of a classifier of colored images, which are written too."""
    rng = np.random.default_rng(3)
    for name, color in (("a_blue", (230, 90, 20)), ("b_orange", (20, 90, 230))):
        for number in range(2):
            path = folder / "classes" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 25, (40, 48, 3))
            cv2.imwrite(str(path), (noise + color).astype(np.uint8))
    base = "cluenet/cls_cifar100_folder.py"
    return _config(folder, base, CLASSIFIER, "classifier")


def save_weights(config: Path, path: Path, seed: int = 0) -> Path:
    """Random weights of a config's model, as a checkpoint without names of classes."""
    torch.manual_seed(seed)
    model = build_model(Config.fromfile(config))
    for name, value in model.state_dict().items():
        if name.endswith(("fc_cls.weight", "conv_seg.weight", "head.fc.weight")):
            torch.nn.init.normal_(value)  # several classes win
    save_checkpoint({"state_dict": model.state_dict()}, path)
    return path


def forget_instances(kind: type[ManagerMixin]) -> None:
    """MMEngine keeps them by name for a process, which here is that of many tools.

    Runs that begin in one second have the same name: the second one would print into
    the stream of the first.
    """
    kind._instance_dict.clear()
    for derived in kind.__subclasses__():
        forget_instances(derived)


def run_tool(*words: object) -> tuple[object, str]:
    """Run a tool in this process.

    Returns:
        Its exit status, or the line that it ends with, and what it printed.
    """
    for kind in (Visualizer, MMLogger):
        forget_instances(kind)
    before, printed = sys.argv, io.StringIO()  # never closed: loggers keep it
    sys.argv = list(map(str, words))
    try:
        with (
            redirect_stdout(printed),
            redirect_stderr(printed),
            pytest.raises(SystemExit) as ending,
        ):
            runpy.run_path(str(tool_path(sys.argv[0])), run_name="__main__")
    finally:
        sys.argv = before
    return ending.value.code, printed.getvalue()
