"""The script that draws clusters."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from processes import run

from cluenet_mm import config_path
from cluenet_mm.inference import build_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    model = build_model(Config.fromfile(config_path("cluenet/cls_digits")))
    path = tmp_path_factory.mktemp("weights") / "digits.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    return path


def test_clusters_of_validation_images_and_of_a_folder(checkpoint, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.effect_noise((50, 41), 60).save(tmp_path / "photos" / "grey.png")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    for images, names in (
        ("val", ["val_00000.png", "val_00001.png"]),
        (tmp_path / "photos", ["grey.png"]),
    ):
        out_dir = tmp_path / names[0]
        options = ("--out-dir", out_dir, "--limit", 2, "--heads", 2)
        result = run(
            "visualize/clusters.py", images, "cluenet/cls_digits", checkpoint, *options
        )
        assert result.returncode == 0, result.stderr
        assert sorted(p.name for p in out_dir.iterdir()) == names
        picture = np.asarray(Image.open(out_dir / names[0]).convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_what_cannot_be_drawn_is_one_line(checkpoint, tmp_path):
    wrong = tmp_path / "wrong.pth"
    torch.save({"state_dict": {"backbone.foo": torch.zeros(2)}}, wrong)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    for images, weights, message in (
        (tmp_path / "cut.png", checkpoint, "cut.png: it is damaged or not an image"),
        (tmp_path / "none.jpg", checkpoint, "none.jpg does not exist"),
        ("val", tmp_path / "none.pth", "none.pth does not exist"),
        ("val", wrong, "backbone.foo"),
    ):
        out_dir = tmp_path / "out"
        options = ("--out-dir", out_dir)
        result = run(
            "visualize/clusters.py", images, "cluenet/cls_digits", weights, *options
        )
        assert result.returncode == 1
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert not out_dir.exists()
