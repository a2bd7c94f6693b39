import json

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet")

from mmdet.datasets import CocoPanopticDataset
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from pycocotools.coco import COCO

from cluenet_mm import config_path
from cluenet_mm.datasets.digits_scenes import DIGITS, NUM_SCENES
from cluenet_mm.datasets.panoptic_png import (
    id_to_rgb,
    read_panoptic,
    rgb_to_id,
    write_panoptic,
)

BACKGROUND = 10


@pytest.fixture
def root(digits_scenes_root):
    return digits_scenes_root


@pytest.fixture(autouse=True)
def _in_mmdet():
    init_default_scope("mmdet")


# --- the colors ------------------------------------------------------------------


def test_ids_are_colors_and_back(tmp_path):
    ids = np.array([[0, 1, 255], [256, 65536, 256**3 - 1], [70_000, 300, 13]])
    assert (rgb_to_id(id_to_rgb(ids)) == ids).all()
    assert id_to_rgb(np.array([[1 + 2 * 256 + 3 * 256**2]])).tolist() == [[[1, 2, 3]]]
    write_panoptic(tmp_path / "new" / "a.png", ids)
    stored = cv2.imread(str(tmp_path / "new" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert stored[1, 0].tolist() == [0, 1, 0]  # OpenCV: blue, green, red
    assert stored[1, 1].tolist() == [1, 0, 0]
    assert (read_panoptic(str(tmp_path / "new" / "a.png")) == ids).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


# --- the digits -------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_panoptic_scenes_agree_with_instances_and_semantic_maps(root, split):
    instances = COCO(str(root / "annotations" / f"instances_{split}.json"))
    content = json.loads((root / "annotations" / f"panoptic_{split}.json").read_text())
    assert content["images"] == list(instances.imgs.values())
    names = [c["name"] for c in content["categories"] if c["isthing"]]
    assert names == list(DIGITS)
    assert content["categories"][BACKGROUND]["name"] == "background"
    assert len(content["annotations"]) == NUM_SCENES[split]
    for entry in content["annotations"][::7]:
        ids = read_panoptic(str(root / "panoptic" / split / entry["file_name"]))
        semantic = cv2.imread(str(root / "semantic" / split / entry["file_name"]), -1)
        segments = {s["id"]: s for s in entry["segments_info"]}
        assert set(np.unique(ids)) == set(segments)  # no pixel without a segment
        stuff = [s for s in segments.values() if s["category_id"] == BACKGROUND + 1]
        assert len(stuff) == 1
        assert ((ids == stuff[0]["id"]) == (semantic == 0)).all()
        things = [s for s in segments.values() if s not in stuff]
        digits = instances.imgToAnns[entry["image_id"]]
        for thing, digit in zip(things, digits, strict=True):
            mask = instances.annToMask(digit).astype(bool)
            assert ((ids == thing["id"]) == mask).all()
            for key in ("category_id", "bbox", "area", "iscrowd"):
                assert thing[key] == digit[key]


def test_the_config_s_data_sets_give_samples_for_panoptic_models(root):
    cfg = Config.fromfile(config_path("_base_/datasets/digits_panoptic"))
    for split in ("train", "val"):
        settings = cfg[f"{split}_dataloader"].dataset
        dataset = DATASETS.build({**settings, "data_root": str(root)})
        assert len(dataset) == NUM_SCENES[split]
        assert dataset.metainfo["classes"] == (*DIGITS, "background")
        sample = dataset[5]["data_samples"]
        things, classes = sample.gt_instances, sample.gt_sem_seg.sem_seg[0].numpy()
        assert len(things.masks) == len(things.labels) == len(things.bboxes) >= 4
        covered = things.masks.masks.sum(0)
        assert covered.max() == 1
        assert ((classes == BACKGROUND) == (covered == 0)).all()
        for mask, label, box in zip(
            things.masks.masks, things.labels, things.bboxes.tensor, strict=True
        ):
            assert (classes[mask.astype(bool)] == label.item()).all()
            rows, columns = np.nonzero(mask)
            bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == bounds
    assert cfg.val_evaluator.ann_file.endswith("annotations/panoptic_val.json")
    assert sample.metainfo["scale_factor"] == (1.0, 1.0)


# --- COCO's format ----------------------------------------------------------------

PERSON, DOG, GRASS = 0, 1, 2
CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 18, "name": "dog", "isthing": 1},
    {"id": 193, "name": "grass", "isthing": 0},
]


@pytest.fixture
def coco(tmp_path):
    """An image with a person, a crowd of persons, a dog, grass, and unlabeled."""
    ids = np.zeros((20, 30), int)
    boxes = {
        (200, 193, 0): (0, 10, 30, 10),
        (70_001, 1, 0): (2, 4, 5, 12),
        (70_002, 18, 0): (12, 8, 8, 6),
        (16_000_000, 1, 1): (22, 3, 6, 9),
    }
    segments = []
    for (number, category, crowd), (x, y, width, height) in boxes.items():
        ids[y : y + height, x : x + width] = number
        segments.append(
            {
                "id": number,
                "category_id": category,
                "iscrowd": crowd,
                "bbox": [x, y, width, height],
                "area": width * height,
            }
        )
    write_panoptic(tmp_path / "maps" / "a.png", ids)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.zeros((20, 30, 3), np.uint8))
    content = {
        "images": [{"id": 4, "file_name": "a.jpg", "height": 20, "width": 30}],
        "annotations": [
            {"image_id": 4, "file_name": "a.png", "segments_info": segments}
        ],
        "categories": CATEGORIES,
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    return tmp_path


def coco_dataset(folder, pipeline):
    return CocoPanopticDataset(
        ann_file="panoptic.json",
        data_root=str(folder),
        data_prefix={"img": "images/", "seg": "maps/"},
        metainfo={
            "classes": ("person", "dog", "grass"),
            "thing_classes": ("person", "dog"),
            "stuff_classes": ("grass",),
        },
        pipeline=pipeline,
    )


LOAD = {"type": "LoadImageFromFile"}


def test_a_crowd_is_no_instance_and_what_is_unlabeled_is_ignored(coco):
    dataset = coco_dataset(coco, [LOAD, {"type": "cluenet_mm.LoadPanoptic"}])
    results = dataset[0]
    assert isinstance(results["gt_bboxes"], HorizontalBoxes)
    assert results["gt_bboxes"].tensor.tolist() == [[2, 4, 7, 16], [12, 8, 20, 14]]
    assert results["gt_bboxes_labels"].tolist() == [PERSON, DOG]
    assert results["gt_ignore_flags"].tolist() == [False, False]
    person, dog = results["gt_masks"].masks
    assert person.sum() == 5 * 12
    assert dog[8:14, 12:20].all()
    assert dog.sum() == 8 * 6
    classes = results["gt_seg_map"]
    assert classes.dtype == np.uint8
    expected = np.full((20, 30), 255)
    expected[10:] = GRASS
    expected[4:16, 2:7] = PERSON
    expected[8:14, 12:20] = DOG
    expected[3:12, 22:28] = PERSON  # the crowd
    assert (classes == expected).all()


def test_labels_follow_a_resize_and_a_flip(coco):
    steps = [
        LOAD,
        {"type": "cluenet_mm.LoadPanoptic"},
        {"type": "Resize", "scale": (60, 40), "keep_ratio": True},
        {"type": "RandomFlip", "prob": 1.0},
        {"type": "PackDetInputs"},
    ]
    sample = coco_dataset(coco, steps)[0]["data_samples"]
    classes = sample.gt_sem_seg.sem_seg[0].numpy()
    assert classes.shape == (40, 60)
    for mask, label in zip(
        sample.gt_instances.masks.masks, sample.gt_instances.labels, strict=True
    ):
        assert (classes[mask.astype(bool)] == label.item()).all()
    assert sample.gt_instances.bboxes.tensor[0].tolist() == [46, 8, 56, 32]


def test_parts_of_the_labels_can_be_left_out(coco):
    load = TRANSFORMS.build(
        {"type": "cluenet_mm.LoadPanoptic", "with_mask": False, "box_type": None}
    )
    info = coco_dataset(coco, [LOAD])[0]
    results = load({**info})
    assert "gt_masks" not in results
    assert isinstance(results["gt_bboxes"], np.ndarray)
    results = load({**info, "seg_map_path": None})
    assert "gt_seg_map" not in results


def test_faulty_files_are_named(coco):
    dataset = coco_dataset(coco, [LOAD, {"type": "cluenet_mm.LoadPanoptic"}])
    path = coco / "maps" / "a.png"
    write_panoptic(path, np.zeros((20, 31), int))
    with pytest.raises(ValueError, match=r"a\.png have 31 x 20 pixels"):
        dataset[0]
    for content in (b"no image", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot decode .*a\.png"):
            dataset[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        dataset[0]
    load = TRANSFORMS.build({"type": "cluenet_mm.LoadPanoptic"})
    write_panoptic(path, np.zeros((20, 30), int))
    info = coco_dataset(coco, [LOAD])[0]
    info["segments_info"][0]["category"] = 255
    with pytest.raises(ValueError, match="255 classes at most"):
        load(info)


def test_the_config_of_coco_needs_no_panopticapi():
    cfg = Config.fromfile(config_path("_base_/datasets/coco_panoptic"))
    for split in ("train", "val", "test"):
        pipeline = cfg[f"{split}_dataloader"].dataset.pipeline
        kinds = [step.type for step in pipeline]
        assert kinds.count("cluenet_mm.LoadPanoptic") == 1
        assert not any(kind.endswith("LoadPanopticAnnotations") for kind in kinds)
        for step in pipeline:
            TRANSFORMS.build(step)
    assert cfg.test_evaluator == cfg.val_evaluator
    prefix = cfg.val_dataloader.dataset.data_prefix.seg.rstrip("/")
    assert cfg.val_evaluator.seg_prefix == f"data/coco/{prefix}"
    assert cfg.val_evaluator.type == "cluenet_mm.PanopticQuality"
