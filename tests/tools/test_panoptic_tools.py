"""tools/test.py and tools/check_dataset.py with panoptic segmentation."""

import json
import pickle
import re
from pathlib import Path

import cv2
import dense_data
import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import PixelData

from cluenet_mm.checkpoint import save_checkpoint
from cluenet_mm.datasets.panoptic_png import read_panoptic, write_panoptic

CLASSES = ("square", "disc", "ground")
GROUND = 2
# Image, height, width, things as class and box x, y, w, h.
IMAGES = (
    ("one.jpg", 40, 64, [(0, (4, 4, 20, 20)), (1, (34, 10, 24, 24))]),
    ("two.jpg", 50, 48, [(0, (10, 20, 25, 25))]),
    ("empty.jpg", 32, 40, []),
)


@MODELS.register_module(name="BrightThings", force=True)
class BrightThings(BaseModel):
    """Takes every bright image for one square on ground, a dark one for nothing."""

    def __init__(self) -> None:
        super().__init__({"type": "mmdet.DetDataPreprocessor"})
        self.threshold = torch.nn.Parameter(torch.tensor(128.0))

    def forward(self, inputs, data_samples, mode):
        for image, sample in zip(inputs, data_samples, strict=True):
            height, width = sample.ori_shape
            bright = image.mean(0)[:height, :width] > self.threshold
            codes = torch.where(bright, INSTANCE_OFFSET, GROUND)
            if not bright.any():
                codes[:] = len(CLASSES)
            sample.pred_panoptic_seg = PixelData(sem_seg=codes[None])
        return data_samples


CONFIG = """
default_scope = "mmdet"
data = dict(
    type="CocoPanopticDataset", ann_file="panoptic.json", data_root="{folder}",
    data_prefix=dict(img="images/", seg="maps/"), metainfo=dict(
        classes={classes}, thing_classes={classes}[:2], stuff_classes={classes}[2:]))
val_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(test_mode=True, **data, pipeline=[
        dict(type="LoadImageFromFile"), dict(type="cluenet_mm.LoadPanoptic"),
        dict(type="PackDetInputs", meta_keys=(
            "img_id", "img_path", "ori_shape", "img_shape"))]))
test_dataloader = val_dataloader
val_evaluator = dict(
    type="cluenet_mm.PanopticQuality", ann_file="{folder}/panoptic.json",
    seg_prefix="{folder}/maps")
test_evaluator = val_evaluator
val_cfg = test_cfg = dict()
model = dict(type="BrightThings")
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """Images, labels, a config and a checkpoint."""
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for number, (name, height, width, things) in enumerate(IMAGES):
        pixels = np.full((height, width, 3), 30, np.uint8)
        ids = np.full((height, width), 7)
        boxes = [(GROUND, 7, (0, 0, width, height))]
        for label, (x, y, w, h) in things:
            pixels[y : y + h, x : x + w] = 230
            ids[y : y + h, x : x + w] = 70_000 + x
            boxes.append((label, 70_000 + x, (x, y, w, h)))
        segments = [
            {
                "id": code,
                "category_id": label + 1,
                "iscrowd": 0,
                "bbox": list(box),
                "area": int((ids == code).sum()),
            }
            for label, code, box in boxes
        ]
        stem = Path(name).stem
        cv2.imwrite(str(tmp_path / "images" / name), pixels)
        write_panoptic(tmp_path / "maps" / f"{stem}.png", ids)
        images.append(
            {"id": number, "file_name": name, "height": height, "width": width}
        )
        annotations.append(
            {
                "image_id": number,
                "file_name": f"{stem}.png",
                "segments_info": segments,
            }
        )
    categories = [
        {"id": label + 1, "name": name, "isthing": int(label != GROUND)}
        for label, name in enumerate(CLASSES)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    config = CONFIG.format(folder=tmp_path, classes=CLASSES)
    (tmp_path / "config.py").write_text(config)
    save_checkpoint({"state_dict": BrightThings().state_dict()}, tmp_path / "model.pth")
    return tmp_path


def run_test(folder: Path, *words: object) -> tuple[object, str]:
    config, weights = folder / "config.py", folder / "model.pth"
    work = ("--work-dir", folder / "work")
    return dense_data.run_tool("test.py", config, weights, *work, *words)


def test_predictions_become_coco_s_files(folder):
    out = folder / "out" / "found.json"
    for _ in range(2):  # a second test replaces what the first one wrote
        status, printed = run_test(folder, "--out", out)
        assert status == 0
        # Ground matches in two of three images, 80 %; a square matches, and another
        # is missed for a spurious one, 50 %; no disc is found.
        (value,) = re.findall(r"coco_panoptic/PQ: +([\d.]+)", printed)
        assert float(value) == pytest.approx(130 / 3, abs=1)  # JPEG
        names = sorted(path.name for path in out.parent.iterdir())
        assert names == ["found.panoptic", "found.panoptic.json"]
        (out.parent / "found.panoptic" / "stale.png").write_text("")
    (out.parent / "found.panoptic" / "stale.png").unlink()
    entries = json.loads((out.parent / "found.panoptic.json").read_text())
    entries = {entry["file_name"]: entry for entry in entries["annotations"]}
    files = {path.name for path in (out.parent / "found.panoptic").iterdir()}
    assert files == set(entries) == {"one.png", "two.png", "empty.png"}
    assert entries["empty.png"]["segments_info"] == []
    for name in ("one.png", "two.png"):
        ids = read_panoptic(str(out.parent / "found.panoptic" / name))
        truth = read_panoptic(str(folder / "maps" / name))
        ground, square = entries[name]["segments_info"]
        assert (ground["category_id"], square["category_id"]) == (3, 1)
        differ = (ids == square["id"]) != (truth > 7)
        assert differ.mean() < 0.02  # JPEG


def test_a_pickle_holds_the_maps(folder):
    out = folder / "found.pkl"
    assert run_test(folder, "--out", out)[0] == 0
    maps = [s["pred_panoptic_seg"]["sem_seg"] for s in pickle.loads(out.read_bytes())]
    assert [tuple(m.shape) for m in maps] == [(1, h, w) for _, h, w, _ in IMAGES]


def test_what_panoptic_segmentation_cannot_do_is_refused(folder):
    line, _ = run_test(folder, "--out", folder / "maps_of_labels")
    assert "maps_of_labels needs IoUMetric in test_evaluator" in line
    line, _ = run_test(folder, "--tta")
    assert "views of a panoptic segmentation cannot be merged" in line


def test_show_dir_holds_labels_beside_predictions(folder):
    assert run_test(folder, "--show-dir", folder / "shown")[0] == 0
    for name, height, width, _ in IMAGES:
        shown = cv2.imread(str(folder / "shown" / f"{Path(name).stem}.png"))
        assert shown.shape == (height, 2 * width, 3)
        image = cv2.imread(str(folder / "images" / name))
        labels, prediction = shown[:, :width], shown[:, width:]
        assert (labels != image).any()
        assert (prediction != image).any() == (name != "empty.jpg")


def check(folder: Path, *words: object) -> tuple[object, dict]:
    report = folder / "report.json"
    command = ("check_dataset.py", folder / "config.py", "--json", report, *words)
    status, _ = dense_data.run_tool(*command)
    return status, json.loads(report.read_text())[0]


def test_sound_panoptic_data_are_counted_and_drawn(folder):
    options = ("--num-samples", 3, "--out-dir", folder / "look")
    status, report = check(folder, *options)
    assert status == 0
    assert report["faults"] == {}
    assert report["unit"] == "segments"
    assert report["histogram"] == {"square": 2, "disc": 1, "ground": 3}
    assert report["counts"] == {
        "images": 3,
        "images without segments": 0,
        "classes": 3,
        "segments": 6,
        "crowd regions": 0,
    }
    drawn = {path.name: cv2.imread(str(path)) for path in folder.glob("look/*/*.png")}
    assert sorted(drawn) == ["0000_one.png", "0001_two.png", "0002_empty.png"]
    image = cv2.imread(str(folder / "images" / "one.jpg"))
    assert (drawn["0000_one.png"] != image).mean() > 0.5


def test_faults_of_panoptic_data_are_found(folder):
    path = folder / "panoptic.json"
    content = json.loads(path.read_text())
    one, two, empty = (a["segments_info"] for a in content["annotations"])
    one[1]["id"] = 5  # its pixels lose their segment, and it has none
    one[2]["bbox"] = [34, 10, 124, 24]
    two[0]["iscrowd"] = 1
    two[1]["category_id"] = 9
    empty.append(dict(empty[0]))
    content["annotations"].append(
        {"image_id": 33, "file_name": "one.png", "segments_info": []}
    )
    path.write_text(json.dumps(content))
    write_panoptic(folder / "maps" / "two.png", np.full((50, 49), 7))
    (folder / "maps" / "empty.png").write_bytes(b"torn")
    status, report = check(folder)
    assert status == 1
    faults = report["faults"]
    loading = faults.pop("mmdet cannot load it")  # the unknown category
    assert len(loading) == 1
    assert {kind: len(places) for kind, places in faults.items()} == {
        "pixels of an unknown segment": 1,
        "segment has no pixels": 2,  # of one.png, and of two.png by its other map
        "box reaches outside its image": 1,
        "labels have another size than their image": 1,
        "annotation of an unknown category": 1,
        "image is damaged": 1,
        "several segments of an image have one id": 1,
        "annotation of an unknown image": 1,
    }
    assert report["counts"]["crowd regions"] == 1
    (folder / "maps" / "empty.png").unlink()
    assert "file is missing" in check(folder)[1]["faults"]


def test_infer_writes_segments(folder, tmp_path):
    out = tmp_path / "found"
    status, text = dense_data.run_tool(
        *("infer.py", folder / "images", folder / "config.py", folder / "model.pth"),
        *("--out-dir", out),
    )
    assert status == 0, text
    record = json.loads((out / "preds/one.json").read_text())
    assert record["size"] == [40, 64]
    ids = read_panoptic(out / "preds" / record["segment_map"])
    assert {s["class"] for s in record["segments"]} == {"square", "ground"}
    for segment in record["segments"]:
        assert segment["pixels"] == (ids == segment["id"]).sum() > 0
    bright = cv2.imread(str(folder / "images/one.jpg")).mean(2) > 128
    square = next(s["id"] for s in record["segments"] if s["class"] == "square")
    assert (bright != (ids == square)).sum() < 20  # a JPEG is not exact at its edges
    empty = json.loads((out / "preds/empty.json").read_text())
    assert empty["segments"] == []
    assert (read_panoptic(out / "preds/empty.png") == 0).all()
    assert (out / "vis/one.png").is_file()
