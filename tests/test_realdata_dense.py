"""Detection and segmentation on real images, where ``CLUENET_MM_DATA`` holds some."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from cluenet_mm import config_path, tool_path

FOLDER = os.environ.get("CLUENET_MM_DATA")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not FOLDER, reason="CLUENET_MM_DATA names no folder"),
]
LOADERS = ("train", "val", "test")


def dataset(config, loader, folder, **options):
    cfg = Config.fromfile(config_path(config))
    init_default_scope(cfg.default_scope)
    settings = cfg[f"{loader}_dataloader"].dataset
    settings.update(data_root=str(Path(FOLDER, folder)), **options)
    return DATASETS.build(settings)


def train(tmp_path, config, *options):
    """Train with the tool and return the entries of its log."""
    command = [sys.executable, str(tool_path("train.py")), config]
    command += ["--work-dir", str(tmp_path), "--cfg-options", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    (log,) = tmp_path.glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize("loader", ["train", "val"])
def test_coco_goes_through_the_pipeline(loader):
    coco = dataset("cluenet/mask_rcnn_coco_tiny", loader, "coco_mini")
    assert len(coco) == 80
    classes = set()
    for i in range(len(coco)):
        sample = coco[i]
        height, width = sample["inputs"].shape[1:]
        assert max(height, width) <= 1333
        assert min(height, width) <= 800
        instances = sample["data_samples"].gt_instances
        assert len(instances) == len(instances.masks)
        boxes = instances.bboxes.tensor
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= width
        assert boxes[:, 3].max() <= height
        classes |= set(instances.labels.tolist())
    assert len(classes) > 70


@pytest.mark.parametrize(("loader", "size"), [("train", 367), ("val", 101)])
def test_camvid_goes_through_the_pipeline(loader, size):
    camvid = dataset("cluenet/semantic_fpn_camvid", loader, "camvid")
    assert len(camvid) == size
    labels = set()
    for i in range(0, size, 10):
        sample = camvid[i]
        shape = sample["inputs"].shape[1:]
        assert max(shape) <= 320 if loader == "train" else shape == (384, 480)
        labels |= set(np.unique(sample["data_samples"].gt_sem_seg.data).tolist())
    assert labels == set(range(12))


def test_a_detector_trains_and_evaluates_on_coco(tmp_path):
    root = str(Path(FOLDER, "coco_mini"))
    options = [f"{loader}_dataloader.dataset.data_root={root}" for loader in LOADERS]
    options += [f"{loader}_dataloader.dataset.indices=4" for loader in LOADERS]
    options += [f"{loader}_dataloader.num_workers=0" for loader in LOADERS]
    options += [f"{loader}_dataloader.persistent_workers=False" for loader in LOADERS]
    resize = {"train": 2, "val": 1, "test": 1}
    options += [
        f"{loader}_dataloader.dataset.pipeline.{at}.scale=(192,192)"
        for loader, at in resize.items()
    ]
    evaluators = ("val_evaluator", "test_evaluator")
    options += [
        f"{name}.ann_file={root}/annotations/instances_val2017.json"
        for name in evaluators
    ]
    options += [
        "model.train_cfg.rcnn.sampler.num=32",
        "model.test_cfg.rpn.max_per_img=50",
        "model.test_cfg.rcnn.score_thr=0.0",  # so that there is something to evaluate
        "train_cfg.max_epochs=1",
        "default_hooks.logger.interval=1",
    ]
    entries = train(tmp_path, "cluenet/mask_rcnn_coco_tiny", *options)
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert 0 <= entries[-1]["coco/bbox_mAP"] <= 1


def test_a_segmenter_learns_on_camvid(tmp_path):
    root = str(Path(FOLDER, "camvid"))
    options = [f"{loader}_dataloader.dataset.data_root={root}" for loader in LOADERS]
    options += [f"{loader}_dataloader.num_workers=0" for loader in LOADERS]
    options += [f"{loader}_dataloader.persistent_workers=False" for loader in LOADERS]
    options += [
        "val_dataloader.dataset.indices=12",
        "train_dataloader.batch_size=2",
        "train_dataloader.dataset.pipeline.3.crop_size=(160,160)",
        "model.data_preprocessor.size=(160,160)",
        "train_cfg.max_iters=40",
        "train_cfg.val_interval=40",
        "default_hooks.logger.interval=10",
    ]
    entries = train(tmp_path, "cluenet/semantic_fpn_camvid", *options)
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert losses[-1] < losses[0]
    # Calling every pixel road gives 2.7.
    assert entries[-1]["mIoU"] > 6
