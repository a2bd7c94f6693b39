import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from processes import context
from pycocotools.coco import COCO

from cluenet_mm.datasets import (
    Digits,
    DigitsInstances,
    DigitsPanoptic,
    DigitsSemantic,
    digits_scenes,
)
from cluenet_mm.datasets.digits_scenes import DIGITS, NUM_SCENES, prepare_scenes

SPLITS = ("train", "val")


@pytest.fixture
def root(digits_scenes_root):
    return digits_scenes_root


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def digest(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    names = b"".join(bytes(p.relative_to(root)) for p in files)
    content = b"".join(p.read_bytes() for p in files)
    return hashlib.sha256(names + content).hexdigest()


def prepare_few_scenes(root):
    """Run this in a separate process: it changes a constant."""
    NUM_SCENES.update(train=40, val=10)
    prepare_scenes(root)


def test_processes_at_once_make_the_same_scenes(root, tmp_path):
    target = tmp_path / "data" / "scenes"
    started = [
        context().Process(target=prepare_few_scenes, args=[target]) for _ in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=100)
    assert [process.exitcode for process in started] == [0, 0]
    pictures = list(target.rglob("*.png"))
    assert len(pictures) == 3 * 50
    for path in pictures:
        assert path.read_bytes() == (root / path.relative_to(target)).read_bytes()
    for path in target.glob("annotations/*.json"):
        few = json.loads(path.read_text())
        every = json.loads((root / path.relative_to(target)).read_text())
        for key in ("images", "annotations"):
            assert few[key] == every[key][: len(few[key])]
        assert few["categories"] == every["categories"]
    assert list(target.parent.iterdir()) == [target]  # no scratch folder stays


def test_scenes_that_are_there_stay(root):
    before = digest(root), (root / "VERSION").stat().st_mtime_ns
    prepare_scenes(root)
    assert (digest(root), (root / "VERSION").stat().st_mtime_ns) == before


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cv2, "imwrite", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare_scenes(tmp_path / "scenes")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path):
    (tmp_path / "VERSION").write_text("another one")
    with pytest.raises(FileExistsError, match="data_root"):
        prepare_scenes(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["VERSION"]


@pytest.mark.parametrize("split", SPLITS)
def test_annotations_agree_with_each_other(root, split):
    coco = COCO(str(root / "annotations" / f"instances_{split}.json"))
    assert len(coco.imgs) == NUM_SCENES[split]
    assert [coco.cats[i + 1]["name"] for i in range(10)] == list(DIGITS)
    seen = np.zeros(11, int)
    for number, entry in coco.imgs.items():
        image = read(root / "images" / split / entry["file_name"])
        assert image.shape == (entry["height"], entry["width"], 3)
        union = np.zeros(image.shape[:2], np.uint8)
        for annotation in coco.imgToAnns[number]:
            mask = coco.annToMask(annotation).astype(bool)
            assert mask.sum() == annotation["area"] > 50
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
            assert not union[mask].any()  # digits share no pixel
            union[mask] = annotation["category_id"]
            seen[annotation["category_id"]] += 1
        assert 4 <= len(coco.imgToAnns[number]) <= 8
        semantic = read(root / "semantic" / split / entry["file_name"])
        assert (semantic == union).all()
    assert seen[0] == 0
    assert seen[1:].min() > 0.7 * seen[1:].mean()


def test_train_and_val_show_different_digits(monkeypatch):
    drawn = {}

    class Recorded(Digits):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            drawn.setdefault(self.split, set()).add(sample["img"].tobytes())
            return sample

    monkeypatch.setattr(digits_scenes, "Digits", Recorded)
    for split in SPLITS:
        digits_scenes.make_scenes(split)
    assert min(len(images) for images in drawn.values()) > 200
    assert not drawn["train"] & drawn["val"]


def test_data_sets_read_the_same_scenes(root):
    init_default_scope("mmdet")
    boxes = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
        {"type": "PackDetInputs"},
    ]
    detection = DigitsInstances("val", str(root), boxes)
    init_default_scope("mmseg")
    labels = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        {"type": "PackSegInputs"},
    ]
    segmentation = DigitsSemantic("val", str(root), labels)
    assert len(detection) == len(segmentation) == NUM_SCENES["val"]
    assert detection.metainfo["classes"] == DIGITS
    assert segmentation.metainfo["classes"] == ("background", *DIGITS)
    for i in (0, 57):
        one, other = detection[i], segmentation[i]
        assert (one["inputs"] == other["inputs"]).all()
        instances = one["data_samples"].gt_instances
        semantic = other["data_samples"].gt_sem_seg.data[0].numpy()
        for mask, label in zip(instances.masks, instances.labels, strict=True):
            assert (semantic[mask.astype(bool)] == label.item() + 1).all()
        assert (semantic > 0).sum() == instances.masks.masks.sum()


@pytest.mark.parametrize("kind", [DigitsInstances, DigitsPanoptic, DigitsSemantic])
def test_a_lazy_data_set_writes_nothing(kind, tmp_path):
    dataset = kind("val", str(tmp_path / "scenes"), lazy_init=True)
    assert set(DIGITS) <= set(dataset.metainfo["classes"])
    if kind is DigitsPanoptic:
        assert dataset.metainfo["stuff_classes"] == ("background",)
    else:
        assert dataset.metainfo["classes"][-1] == "9"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="'test'"):
        kind("test", str(tmp_path / "scenes"))


def test_a_home_directory_is_one_place(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    before = sorted(root.parent.iterdir())
    assert len(DigitsSemantic("val", f"~/{root.name}")) == NUM_SCENES["val"]
    assert sorted(root.parent.iterdir()) == before


def test_annotations_are_json_without_python_s_extensions(root):
    path = Path(root, "annotations", "instances_val.json")
    text = path.read_text()
    assert "NaN" not in text
    assert json.loads(text)["annotations"][0]["id"] == 1
