"""A backbone is one file and one config: the tools know nothing of it, and work."""

import dense_data
import numpy as np
import torch
from new_family import CenterNet
from PIL import Image

from cluenet_mm import config_path
from cluenet_mm.interpret import trace

CONFIG = """
_base_ = "{base}"
custom_imports = dict(imports=["new_family"])
model = dict(
    backbone=dict(_delete_=True, type="cluenet_mm.CenterNet"),
    head=dict(in_channels=32))
train_cfg = dict(max_epochs=1)
"""


def test_a_new_family_trains_and_shows_its_clusters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = config_path("coc/cls_digits")
    (tmp_path / "mine.py").write_text(CONFIG.format(base=base))
    picture = np.random.default_rng(0).integers(0, 256, (37, 45, 3), np.uint8)
    Image.fromarray(picture).save("picture.png")
    weights = "work_dirs/mine/epoch_1.pth"
    shown = ("picture.png", "mine.py", weights)
    for words, expected in (
        (["train.py", "mine.py"], "ImageClassifier with CenterNet"),
        (["test.py", "mine.py", weights], "accuracy/top1"),
        (["analysis/get_flops.py", "mine.py"], "backbone.stages.1"),
        (["visualize/clusters.py", *shown, "--out-dir", "clusters"], "1 picture"),
        (["visualize/explore.py", *shown], "1 image"),
    ):
        status, printed = dense_data.run_tool(*words)
        assert not status, (words, status, printed)
        assert expected in printed
    maps = trace(CenterNet(), torch.randn(2, 3, 37, 45))
    assert maps.layers() == [(0, 0), (1, 0)]
    assert maps.clusters(grid="image").shape == (2, 4, 37, 45)
    assert len(maps.clusters().unique()) > 1
