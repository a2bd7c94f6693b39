"""The scripts that draw clusters and measure them."""

import json
from pathlib import Path

import cv2
import dense_data
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from cluenet_mm import config_path
from cluenet_mm.inference import build_model
from cluenet_mm.interpret import to_input, trace
from cluenet_mm.interpret.annotated_images import annotated_images
from cluenet_mm.interpret.quality import SegmentationScores, grid_segments

_OPPONENTS = ("Ward on colors", "Felzenszwalb", "SLIC", "grid")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return dense_data.save_weights(config_path("fec/cls_digits"), folder / "digits.pth")


@pytest.fixture
def camvid(tmp_path):
    """Three street scenes in CamVid's layout: sky over road, and a car."""
    root = tmp_path / "camvid"
    rng = np.random.default_rng(0)
    for kind in ("images", "annotations"):
        (root / kind / "val").mkdir(parents=True)
    for number in range(3):
        labels = np.zeros((24, 36), np.uint8)
        labels[12:] = 3
        labels[14:20, 6 + number : 20] = 8
        labels[:, 34:] = 11
        colors = np.array([(90, 160, 255), (80, 80, 80), (200, 0, 0), (0, 0, 0)])
        image = colors[np.searchsorted([0, 3, 8, 11], labels)]
        image = (image + rng.integers(0, 9, image.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / "val" / f"{number}.png")
        Image.fromarray(labels).save(root / "annotations" / "val" / f"{number}.png")
    return root


def test_quality_of_clusters_superpixels_and_a_grid(checkpoint, camvid, tmp_path):
    status, printed = dense_data.run_tool(
        "analysis/cluster_quality.py",
        *("fec/cls_digits", checkpoint, "--dataset", "camvid", "--data-root", camvid),
        *("--images", 2, "--faithfulness-images", 2, "--random-orders", 2),
        *("--untrained", 1, "--segments", 2, 5),
        *("--stability-images", 2, "--pointing-grids", 0),
        *("--json", tmp_path / "new" / "quality.json", "--device", "cpu"),
    )
    assert status == 0, printed
    found = json.loads((tmp_path / "new" / "quality.json").read_text())
    rows = {(r["stage"], r["segments"]): r for r in found["emergence"]["rows"]}
    assert set(rows) == {
        (i, name)
        for i in (1, 2, 3, 4)
        for name in ("clusters", "untrained 1", *_OPPONENTS)
    }
    kinds = ("clusters", "clusters and colors", "untrained 1", "untrained 1 and colors")
    merged = {(r["k"], r["segments"]): r for r in found["emergence"]["merged"]}
    assert set(merged) == {(k, n) for k in (2, 5) for n in (*kinds, *_OPPONENTS)}
    assert all(merged[5, name]["count"] == 5 for name in kinds)
    ranked = {r["segments"] for r in found["faithfulness"]["rows"]}
    own = {"clusters", "clusters by Grad-CAM", "clusters by points"}
    assert own | {"untrained 1", "grid"} <= ranked
    assert found["stability"]["images"] == 2
    assert {r["segments"] for r in found["stability"]["rows"]} == {
        *("clusters", "untrained 1", *_OPPONENTS)
    }
    assert "Stability: 2 annotated images" in printed
    assert "pointing" not in found
    # The same by hand, of the first stage, whose only head is the mean.
    model = build_model(Config.fromfile(config_path("fec/cls_digits")), checkpoint)
    entries = list(annotated_images("camvid", camvid, limit=2))
    assert [e.name for e in entries] == ["0", "1"]
    expected, grids = [], []
    for entry in entries:
        maps = trace(model, to_input(model, entry.image))
        segments = maps.clusters(0, grid="image")[0, 0].numpy()
        expected.append(SegmentationScores.of(segments, entry.truth))
        cells = grid_segments(segments.shape, round(expected[-1].segments))
        grids.append(SegmentationScores.of(cells, entry.truth))
    for name, values in (("clusters", expected), ("grid", grids)):
        mean, row = SegmentationScores.mean(values), rows[1, name]
        assert row["count"] == pytest.approx(mean.segments)
        assert row["accuracy"] == pytest.approx(mean.accuracy)
        assert row["undersegmentation"] == pytest.approx(mean.undersegmentation)
        assert row["boundary_recall"] == pytest.approx(mean.boundary_recall)
        assert row["best_iou"] == pytest.approx(mean.best_iou)
        assert np.isnan(mean.small_iou)  # no object of these scenes is small
        assert row["small_iou"] is None
        line = f"{row['accuracy']:.3f} ± {row['interval']['accuracy']:.3f}"
        assert line in printed
    for row in found["faithfulness"]["rows"]:
        assert 0 <= row["deletion"] <= 1
        assert row["regions"] >= 1
    assert found["faithfulness"]["images"] == 2
    assert "Faithfulness: 2 validation images" in printed


def test_what_cannot_be_measured_is_one_line(checkpoint, camvid, tmp_path):
    for dataset, root, message in (
        ("coco", tmp_path / "none", "cannot read coco: "),
        ("camvid", tmp_path / "none", "cannot read camvid: "),
        ("digits", camvid, "cannot write digit scenes"),
    ):
        status, printed = dense_data.run_tool(
            "analysis/cluster_quality.py",
            *("fec/cls_digits", checkpoint, "--dataset", dataset),
            *("--data-root", root, "--json", tmp_path / "q.json"),
        )
        assert message in status
        assert "\n" not in status
        assert "Traceback" not in printed
        assert not (tmp_path / "q.json").exists()


def test_clusters_are_drawn_in_many_ways(checkpoint, tmp_path):
    Image.effect_noise((60, 44), 60).save(tmp_path / "grey.png")
    pictures = []
    for options in (
        ("--colors", "feature"),
        ("--colors", "mean", "--size", 22),
        ("--all-blocks", "--heads", 2, "--merge", 3, "--opacity", 1),
    ):
        out_dir = tmp_path / str(len(pictures))
        words = ("fec/cls_digits", checkpoint, "--out-dir", out_dir, *options)
        status, printed = dense_data.run_tool(
            "visualize/clusters.py", tmp_path / "grey.png", *words
        )
        assert status == 0, printed
        assert [p.name for p in out_dir.iterdir()] == ["grey.png"]
        pictures.append(cv2.imread(str(out_dir / "grey.png")))
    # Four stages beside the input; five assignments, as stage 3 has two.
    assert pictures[0].shape[1] == pytest.approx(5 * 2.2 * 110, abs=2)
    assert pictures[2].shape[1] == pytest.approx(6 * 2.2 * 110, abs=2)
    assert pictures[2].shape[0] > 1.9 * pictures[0].shape[0]
    assert (pictures[0] != pictures[1]).any()
    assert all(len(np.unique(p.reshape(-1, 3), axis=0)) > 100 for p in pictures)


def test_validation_images_are_spread_over_the_classes(checkpoint, tmp_path):
    words = ("fec/cls_digits", checkpoint, "--out-dir", tmp_path, "--limit", 3)
    status, printed = dense_data.run_tool("visualize/clusters.py", "val", *words)
    assert status == 0, printed
    names = ["val_00000.png", "val_00120.png", "val_00240.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_no_image_is_replaced_by_its_clusters(checkpoint, tmp_path):
    Image.effect_noise((40, 44), 60).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    for images in (tmp_path, tmp_path / "a.png"):
        words = (images, "fec/cls_digits", checkpoint, "--out-dir", tmp_path)
        status, _ = dense_data.run_tool("visualize/clusters.py", *words)
        assert f"cannot draw into {tmp_path}: the images lie there" in status
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("images", "weights", "message"),
    [
        ("none.jpg", "", "none.jpg does not exist"),
        ("cut.png", "", "cut.png: it is damaged or not an image"),
        ("val", "none.pth", "none.pth does not exist"),
        ("val", "wrong.pth", "backbone.foo"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    checkpoint, tmp_path, monkeypatch, images, weights, message
):
    monkeypatch.chdir(tmp_path)
    Path("cut.png").write_bytes(b"\x89PNG")
    torch.save({"state_dict": {"backbone.foo": torch.zeros(2)}}, "wrong.pth")
    words = ("fec/cls_digits", weights or checkpoint, "--out-dir", "out")
    status, printed = dense_data.run_tool("visualize/clusters.py", images, *words)
    assert message in (status if isinstance(status, str) else printed)
    assert status not in (0, None)
    assert "Traceback" not in printed
    assert not Path("out").exists()


def test_a_damaged_image_does_not_end_a_folder(checkpoint, tmp_path):
    for name in ("a.png", "sub/a.png", "z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.effect_noise((40, 44), 60).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    out_dir = tmp_path / "out"
    words = (tmp_path, "fec/cls_digits", checkpoint, "--out-dir", out_dir)
    for _ in range(2):  # the second time with the pictures of the first in the folder
        status, printed = dense_data.run_tool("visualize/clusters.py", *words)
        assert status == 1
        assert f"{out_dir}: 3 pictures" in printed
    assert printed.splitlines()[-2:] == [
        "1 of 4 images failed",
        f"error: cannot decode {tmp_path / 'cut.png'}: it is damaged or not an image",
    ]
    found = [str(path.relative_to(out_dir)) for path in out_dir.rglob("*.png")]
    assert sorted(found) == ["a.png", "sub/a.png", "z.png"]


@pytest.mark.parametrize(
    "option", [("--opacity", "1.5"), ("--opacity", "nan"), ("--size", "0")]
)
def test_options_out_of_range_are_usage_errors(checkpoint, tmp_path, option):
    words = ("val", "fec/cls_digits", checkpoint, "--out-dir", tmp_path / "out")
    status, printed = dense_data.run_tool("visualize/clusters.py", *words, *option)
    assert status == 2
    assert f"argument {option[0]}: " in printed.splitlines()[-1]
