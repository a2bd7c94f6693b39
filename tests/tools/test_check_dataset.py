"""tools/check_dataset.py finds what is wrong, names it, and is silent otherwise."""

import json
import os
from pathlib import Path

import cv2
import dense_data
import numpy as np
import pytest

pytest.importorskip("mmpretrain")
pytest.importorskip("mmdet")
pytest.importorskip("mmseg")


PURE_PYTHON = """
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs, RandomCrop
default_scope = "mmseg"
train_dataloader = dict(dataset=dict(
    type=BaseSegDataset, data_root="{folder}", ann_file="names.txt",
    data_prefix=dict(img_path="images", seg_map_path="maps"), img_suffix="",
    metainfo=dict(classes=("background", "ellipse", "rectangle")),
    pipeline=[dict(type=LoadAnnotations), dict(type=RandomCrop, crop_size=(64, 64)),
              dict(type=PackSegInputs)]))
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    return dense_data.write(tmp_path)


def check(config: Path, *words: object) -> tuple[object, str, list[dict]]:
    """Exit status, what was printed, and the reports."""
    path = config.with_suffix(".json")
    command = ("check_dataset.py", config, "--json", path, *words)
    status, printed = dense_data.run_tool(*command)
    return status, printed, json.loads(path.read_text()) if path.exists() else []


def edit_coco(folder: Path, change) -> None:
    path = folder / "coco.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_sound_detection_data_are_counted(folder):
    status, printed, reports = check(dense_data.detector_config(folder))
    assert status == 0
    assert [report["name"] for report in reports] == ["train", "val"]  # test is val
    for report in reports:
        assert report["faults"] == {}
        assert report["histogram"] == {"ellipse": 3, "rectangle": 4}
        assert report["counts"] == {
            "images": 5,
            "images without objects": 1,
            "classes": 2,
            "objects": 7,
            "crowd regions": 1,
            "objects of other classes": 0,
            "objects below one pixel, which are left out": 0,
        }
    assert printed.count("no faults") == 2


def test_faults_of_coco_annotations_are_found(folder):
    def spoil(content: dict) -> None:
        items = content["annotations"]
        items[0]["bbox"] = [80, 8, 30, 24]  # of an image that is 96 wide
        items[1]["bbox"][2] = 0
        items[2]["image_id"] = 99
        items[4]["category_id"] = 5
        items[5]["segmentation"] = [[1.0, 2.0]]
        items[6]["bbox"] = [1, 2, float("nan"), 4]
        items[7]["id"] = items[6]["id"]
        content["images"][0]["width"] = 95
        content["images"][4]["file_name"] = "gone.jpg"

    edit_coco(folder, spoil)
    config = dense_data.detector_config(folder)
    status, printed, (report,) = check(config, "--split", "train")
    assert status == 1
    faults = report["faults"]
    assert {kind: len(places) for kind, places in faults.items()} == {
        "image has another size than its annotations say": 1,
        "file is missing": 1,
        "box reaches outside its image": 1,
        "object has no area": 1,
        "annotation of an unknown image": 1,
        "annotation of an unknown category": 1,
        "object has no mask": 1,
        "box is not four numbers": 1,
        "several annotations have one id": 1,
        "mmdet cannot load it": 1,
    }
    assert "annotation 1 in scene.png: [80, 8, 30, 24]" in printed
    assert faults["file is missing"][0].endswith("gone.jpg")
    assert "annotation 3 of image 99" in printed
    assert "annotation 5: category 5" in printed


def test_evaluators_read_the_annotations_of_their_data_set(folder):
    config = dense_data.detector_config(folder)
    other = folder / "other.json"
    option = f"test_evaluator.ann_file={other}"  # of a dataset that equals val's
    status, _, reports = check(config, "--cfg-options", option)
    assert status == 1
    assert reports[0]["faults"] == {}
    assert reports[1]["faults"] == {
        "evaluator and dataset differ": [
            f"test_evaluator.ann_file is {other}, and the dataset reads "
            f"{folder / 'coco.json'}"
        ]
    }
    same = f"val_evaluator.ann_file={folder / 'images' / '..' / 'coco.json'}"
    assert check(config, "--cfg-options", same)[0] == 0


def test_annotations_that_are_missing_are_one_line(folder):
    (folder / "coco.json").unlink()
    line, printed, _ = check(dense_data.detector_config(folder))
    assert "coco.json does not exist. docs/data.md describes the layouts" in line
    assert line.startswith("error: cannot read train: ")
    assert "\n" not in line
    assert "Traceback" not in printed


def test_segmentation_labels_are_counted_and_checked(folder):
    config = dense_data.segmentor_config(folder)
    status, _, reports = check(config)
    assert status == 0
    sizes = [height * width for _, height, width, _ in dense_data.IMAGES]
    frame = sum(2 * width for _, _, width, _ in dense_data.IMAGES)
    report = reports[0]
    assert sum(report["histogram"].values()) == sum(sizes) - frame
    assert report["counts"]["pixels to ignore (label 255)"] == frame
    maps = {path.name: cv2.imread(str(path), 0) for path in (folder / "maps").iterdir()}
    ellipses = sum((labels == 1).sum() for labels in maps.values())
    assert report["histogram"]["ellipse"] == ellipses > 0

    maps["scene.png.png"][10, 10] = 3
    cv2.imwrite(str(folder / "maps" / "scene.png.png"), maps["scene.png.png"])
    cv2.imwrite(str(folder / "maps" / "dot.png.png"), maps["dot.png.png"][:, :-1])
    colors = np.dstack([maps["wide.jpg.png"]] * 3)
    cv2.imwrite(str(folder / "maps" / "wide.jpg.png"), colors)
    (folder / "maps" / "empty.png.png").unlink()
    jpeg = folder / "images" / "grey.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:400])
    status, printed, (report,) = check(config, "--split", "val")
    assert status == 1
    assert report["faults"].keys() == {
        "label out of range",
        "label map has another size",
        "label map has several channels",
        "file is missing",
        "image is damaged",
    }
    assert "scene.png.png: 3" in printed
    assert "dot.png.png: 132 x 40, not 133 x 40" in printed
    # A fault only for a model that does not ignore this label.
    option = "model.decode_head.ignore_index=3"
    _, _, (report,) = check(config, "--split", "val", "--cfg-options", option)
    places = report["faults"]["label out of range"]
    assert len(places) == 3  # the frames of 255 in the maps that can be read
    assert all(place.endswith(": 255") for place in places)


def test_label_maps_without_an_image_are_found(folder):
    config = dense_data.segmentor_config(folder)
    for path in (folder / "images").iterdir():
        path.rename(path.with_name(f"{path.name}.png"))  # as the label maps
    names = ("ann_file=", "img_suffix=.png")
    options = [f"val_dataloader.dataset.{name}" for name in names]
    command = (config, "--split", "val", "--cfg-options", *options)
    status, _, (report,) = check(*command)
    assert status == 0
    (folder / "images" / "scene.png.png").unlink()
    status, _, (report,) = check(*command)
    assert status == 1
    assert list(report["faults"]) == ["label map without an image"]
    assert report["faults"]["label map without an image"][0].endswith("scene.png.png")


def test_an_ignored_label_must_be_no_class(folder):
    config = dense_data.segmentor_config(folder)
    options = (
        "model.decode_head.ignore_index=2",
        "model.data_preprocessor.seg_pad_val=1",
        "train_dataloader.dataset.ignore_index=0",
        "train_dataloader.dataset.pipeline.2.ignore_index=2",
        "val_evaluator.0.ignore_index=1",
    )
    status, _, reports = check(config, "--cfg-options", *options)
    assert status == 1
    train, val = (report["faults"]["a class is ignored"] for report in reports)
    both = [
        "model.decode_head.ignore_index is 2, the label of 'rectangle'",
        "data_preprocessor.seg_pad_val is 1, the label of 'ellipse'",
    ]
    assert sorted(train) == sorted(
        [
            *both,
            "train_dataloader.dataset.ignore_index is 0, the label of 'background'",
            "train_dataloader.dataset.pipeline.2.ignore_index is 2, the label of "
            "'rectangle'",
        ]
    )
    evaluated = "val_evaluator.0.ignore_index is 1, the label of 'ellipse'"
    assert sorted(val) == sorted([*both, evaluated])
    beyond = "model.decode_head.ignore_index=3"
    _, _, (report,) = check(config, "--split", "train", "--cfg-options", beyond)
    assert "a class is ignored" not in report["faults"]


def test_classification_folders_are_checked_and_drawn(folder):
    config = dense_data.classifier_config(folder)
    draw = ("--num-samples", 3, "--out-dir", folder / "drawn")
    status, _, (report,) = check(config, "--split", "val", *draw)
    assert status == 0
    assert report["histogram"] == {"blue": 2, "orange": 2}
    pictures = sorted((folder / "drawn" / "val").iterdir())
    assert [path.name for path in pictures] == [
        "0000_0.png",
        "0001_1.png",
        "0002_0.png",
    ]
    blue, orange = (cv2.imread(str(pictures[i]))[-9:] for i in (0, 2))
    assert blue.mean((0, 1)).argmax() == 0  # OpenCV's first channel is blue
    assert orange.mean((0, 1)).argmax() == 2

    image = folder / "classes" / "a_blue" / "1.png"
    image.write_bytes(image.read_bytes()[:60])
    command = (config, "--split", "val", "--cfg-options", "model.head.num_classes=3")
    status, printed, (report,) = check(*command, *draw)  # draws the others
    assert status == 1
    assert report["faults"].keys() == {
        "image is damaged",
        "model and dataset differ",
    }
    assert "Traceback" not in printed
    _, _, (report,) = check(config, "--split", "val", "--no-decode")
    assert report["faults"] == {}


def test_what_counts_classes_counts_those_of_the_data(folder):
    config = dense_data.classifier_config(folder)
    options = (
        "test_evaluator.topk=(1,3)",
        "model.train_cfg.augments.type=Mixup",
        "data_preprocessor.num_classes=5",
    )
    status, _, (report,) = check(config, "--split", "val", "--cfg-options", *options)
    assert status == 1
    assert report["faults"] == {
        "model and dataset differ": [
            "data_preprocessor.num_classes is 5, and the dataset has 2 classes"
        ],
        "a metric needs more classes": [
            "test_evaluator.topk has 3, and there are 2 classes"
        ],
    }
    wrapped = folder / "wrapped.py"
    wrapped.write_text(
        f"_base_ = '{config}'\nval_evaluator = dict(_delete_=True, type='Evaluator', "
        "metrics=[dict(type='Accuracy', topk=(1, 3))])\n"
    )
    faults = check(wrapped, "--split", "val")[2][0]["faults"]
    assert faults == {
        "a metric needs more classes": [
            "val_evaluator.0.topk has 3, and there are 2 classes"
        ]
    }
    # Without augmentations that mix labels nothing reads it.
    command = (config, "--split", "val", "--cfg-options", options[-1])
    assert check(*command)[0] == 0


def test_images_in_memory_are_no_files_to_check():
    words = ("check_dataset.py", "cluenet/cls_cifar100_memory", "--split", "val")
    line, printed = dense_data.run_tool(*words)
    assert line.startswith("error: cannot check val: TensorImages does not list")
    assert "Traceback" not in printed


def test_data_sets_of_pure_python_configs_are_checked(folder):
    config = folder / "config.py"
    config.write_text(PURE_PYTHON.format(folder=folder))
    status, _, (report,) = check(config)
    assert status == 0
    assert report["kind"] == "BaseSegDataset"
    assert report["counts"]["images"] == len(dense_data.IMAGES)


@pytest.mark.parametrize(
    # Objects are in memory, so that their classes take turns; maps are spread evenly.
    ("make", "chosen"),
    [("detector_config", (0, 1)), ("segmentor_config", (0, 2))],
)
def test_samples_of_dense_data_are_drawn(folder, make, chosen):
    config = getattr(dense_data, make)(folder)
    out = folder / "drawn"
    draw = ("--split", "val", "--num-samples", 2, "--out-dir", out)
    assert check(config, *draw)[0] == 0
    pictures = sorted((out / "val").iterdir())
    assert len(pictures) == 2
    names = [dense_data.IMAGES[index][0] for index in chosen]
    for path, name in zip(pictures, names, strict=True):
        assert path.stem.endswith(Path(name).stem)
        picture = cv2.imread(str(path)).astype(int)
        image = cv2.imread(str(folder / "images" / name)).astype(int)
        assert picture.shape == image.shape
        assert abs(picture - image).max() > 50


def test_bad_input_is_one_clear_line(folder):
    line, _ = dense_data.run_tool("check_dataset.py", "nowhere.py")
    assert "cannot read config nowhere.py" in line
    bare = folder / "bare.py"
    bare.write_text("default_scope = 'mmdet'\n")
    assert (
        "cannot check the data: the config has no datasets"
        in dense_data.run_tool("check_dataset.py", bare)[0]
    )
    command = ("check_dataset.py", bare, "--split", "val")
    assert (
        "cannot check val: the config has no val_dataloader"
        in dense_data.run_tool(*command)[0]
    )
    status, printed = dense_data.run_tool("check_dataset.py", bare, "--num-samples", 2)
    assert status == 2
    assert "--num-samples and --out-dir go together" in printed


@pytest.mark.realdata
@pytest.mark.skipif("CLUENET_MM_DATA" not in os.environ, reason="names no folder")
@pytest.mark.parametrize(
    ("config", "folder", "images", "what", "number"),
    [
        ("mask_rcnn_coco_tiny", "coco_mini", (80, 80), "objects", (699, 804)),
        ("semantic_fpn_camvid", "camvid", (367, 101), "classes", (11, 11)),
    ],
)
def test_real_data_are_clean(tmp_path, config, folder, images, what, number):
    root = Path(os.environ["CLUENET_MM_DATA"], folder)
    out = tmp_path / "report.json"
    names = [
        f"{split}_dataloader.dataset.data_root={root}" for split in ("train", "val")
    ]
    if folder == "coco_mini":
        annotations = root / "annotations" / "instances_val2017.json"
        names.append(f"val_evaluator.ann_file={annotations}")
    status, _ = dense_data.run_tool(
        *("check_dataset.py", f"cluenet/{config}", "--split", "train", "val"),
        *("--json", out, "--cfg-options", *names),
    )
    assert status == 0
    counts = [report["counts"] for report in json.loads(out.read_text())]
    assert tuple(count["images"] for count in counts) == images
    assert tuple(count[what] for count in counts) == number
