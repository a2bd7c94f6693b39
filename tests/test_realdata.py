"""On real images, where ``CLUENET_MM_DATA`` names the folder that holds them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from cluenet_mm import config_path, tool_path
from cluenet_mm.datasets import TensorImages

FOLDER = os.environ.get("CLUENET_MM_DATA")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not FOLDER, reason="CLUENET_MM_DATA names no folder"),
]


@pytest.mark.parametrize(("loader", "size"), [("train", 1600), ("val", 400)])
def test_mini_imagenet_goes_through_the_pipeline(loader, size):
    cfg = Config.fromfile(config_path("cluenet/cls_mini_imagenet_tiny"))
    init_default_scope(cfg.default_scope)
    settings = cfg[f"{loader}_dataloader"].dataset
    settings.data_root = str(Path(FOLDER, "mini_imagenet_like"))
    dataset = DATASETS.build(settings)
    assert len(dataset) == size
    assert len(dataset.metainfo["classes"]) == 20
    labels = np.bincount(dataset.get_gt_labels())
    assert (labels == size // 20).all()
    for i in range(0, size, size // 20):  # grayscale files among them
        sample = dataset[i]
        assert sample["inputs"].shape == (3, 224, 224)
        assert sample["data_samples"].gt_label.item() == dataset.get_gt_labels()[i]


def test_class_strips_become_arrays(tmp_path):
    strips = Path(FOLDER, "cifar100")
    command = [sys.executable, tool_path("dev/cifar100_npz.py"), strips]
    command += ["--out", tmp_path, "--classes", "2"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    sizes = {"train": 1000, "test": 200}
    for split, size in sizes.items():
        dataset = TensorImages(str(tmp_path / f"{split}.npz"))
        assert len(dataset) == size
        assert dataset.metainfo == {"classes": ("apple", "aquarium_fish")}
    first = sorted((strips / "test").glob("*.webp"))[0]
    expected = np.asarray(Image.open(first).convert("RGB"))[32:64]
    assert (dataset.images[1].permute(1, 2, 0).numpy() == expected).all()
