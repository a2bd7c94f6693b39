import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluenet_mm.interpret.annotated_images import annotated_images
from cluenet_mm.interpret.pixels import evenly_spaced
from cluenet_mm.interpret.quality import (
    SegmentationScores,
    achievable_accuracy,
    grid_segments,
)

FOLDER = os.environ.get("CLUENET_MM_DATA")


def test_positions_are_spread():
    assert evenly_spaced(10, 4) == [0, 2, 5, 7]
    assert evenly_spaced(3, 8) == evenly_spaced(3, None) == [0, 1, 2]


def box(x, y, width, height):
    right, below = x + width, y + height
    return [[x, y, right, y, right, below, x, below]]


@pytest.fixture
def coco(tmp_path):
    """One image: a large box, a small one in front of it, and a crowd behind both."""
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "val2017" / "7.png")
    boxes = [(4, 4, 4, 4, 0), (2, 2, 10, 10, 0), (0, 0, 20, 6, 1)]
    objects = [
        {
            "id": i,
            "image_id": 7,
            "category_id": 1,
            "area": width * height,
            "bbox": [x, y, width, height],
            "segmentation": box(x, y, width, height),
            **({"iscrowd": 1} if crowd else {}),  # which some files leave out
        }
        for i, (x, y, width, height, crowd) in enumerate(boxes, start=1)
    ]
    file = {
        "images": [{"id": 7, "file_name": "7.png", "height": 16, "width": 20}],
        "annotations": objects,
        "categories": [{"id": 1, "name": "box"}],
    }
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(file))
    return tmp_path, image


def test_objects_lie_in_front_of_larger_ones_and_of_crowds(coco):
    root, image = coco
    [entry] = annotated_images("coco", root)
    assert entry.name == "7"
    assert entry.background == 0
    assert (entry.image == image).all()
    expected = np.zeros((16, 20), int)
    expected[:6] = -1
    expected[2:12, 2:12] = 2
    expected[4:8, 4:8] = 3
    assert (entry.truth == expected).all()


def test_resizing_keeps_labels(coco):
    [entry] = annotated_images("coco", coco[0])
    half = entry.resized(8)
    assert half.image.shape == (8, 10, 3)
    assert (half.truth == entry.truth[1::2, 1::2]).all()
    assert entry.resized(32).truth.shape == (32, 40)


def test_files_that_do_not_fit_are_named(coco, tmp_path):
    root, _ = coco
    Image.new("RGB", (5, 5)).save(root / "val2017" / "7.png")
    with pytest.raises(ValueError, match=r"7\.png: it has \(5, 5\) pixels"):
        list(annotated_images("coco", root))
    (root / "val2017" / "7.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot decode .*7\.png"):
        list(annotated_images("coco", root))
    (root / "annotations" / "instances_val2017.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"instances_val2017\.json lists no images"):
        list(annotated_images("coco", root))
    with pytest.raises(ValueError, match="dataset must be one of"):
        list(annotated_images("voc", root))
    (tmp_path / "annotations" / "val").mkdir()
    Image.new("L", (5, 5)).save(tmp_path / "annotations" / "val" / "1.png")
    with pytest.raises(FileNotFoundError, match=r"cannot find the image of .*1\.png"):
        list(annotated_images("camvid", tmp_path))


def test_digit_scenes_have_their_digits(digits_scenes_root):
    entries = list(annotated_images("digits", digits_scenes_root, limit=3))
    assert [e.name for e in entries] == ["0000", "0033", "0066"]
    for entry in entries:
        assert entry.truth.shape == entry.image.shape[:2] == (128, 128)
        assert np.unique(entry.truth).tolist() == list(range(entry.truth.max() + 1))
        assert 4 <= entry.truth.max() <= 8


@pytest.mark.realdata
@pytest.mark.skipif(not FOLDER, reason="CLUENET_MM_DATA names no folder")
@pytest.mark.parametrize(
    ("dataset", "folder", "shape"),
    [("coco", "coco_mini", None), ("camvid", "camvid", (360, 480))],
)
def test_real_photographs_and_their_areas(dataset, folder, shape):
    entries = list(annotated_images(dataset, Path(FOLDER, folder), limit=20))
    assert len({entry.name for entry in entries}) == 20
    objects = []
    for entry in entries:
        assert entry.image.shape[:2] == entry.truth.shape
        assert shape in (None, entry.truth.shape)
        agreement = SegmentationScores.of(entry.truth - entry.truth.min(), entry.truth)
        if agreement.accuracy == agreement.accuracy:  # something is known
            assert agreement.accuracy == 1
            assert agreement.undersegmentation == 0
        areas = np.unique(entry.truth[entry.truth >= 0])
        objects.append(len(areas) - (entry.background is not None))
        grid = grid_segments(entry.truth.shape, 16)
        assert achievable_accuracy(grid, entry.truth) < 1
    assert sum(objects) > 60
