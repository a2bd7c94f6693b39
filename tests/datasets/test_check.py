"""What makes a training meaningless is refused in one line, and found by the check.

Nothing is decoded: the images of most datasets here do not exist.
"""

import json
import time
from pathlib import Path

import numpy as np
import processes
import pytest
from mmengine.config import Config
from PIL import Image

pytest.importorskip("mmpretrain")
pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

import dense_data
from pycocotools import mask as pycocotools_mask

from cluenet_mm.datasets.check import (
    DatasetError,
    Options,
    check,
    choose_samples,
    named_parts,
    refuse,
    refuse_unusable,
)
from cluenet_mm.datasets.check.common import image_fault
from cluenet_mm.datasets.check.shapes import rle_lengths

HEIGHT, WIDTH = 8, 10
CLASSES = ("person", "car", "dog")
NAN = float("nan")


def coco() -> dict:
    """Two images, three objects, one of them a crowd with compressed counts."""
    box = {"bbox": [1, 1, 4, 5], "area": 20, "iscrowd": 0}
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[2:5, 3:9] = 1
    rle = pycocotools_mask.encode(mask)
    crowd = {"counts": rle["counts"].decode(), "size": [HEIGHT, WIDTH]}
    plain = {"counts": [16, 24, 40], "size": [HEIGHT, WIDTH]}
    polygon = [[1.0, 1, 5, 1, 5, 6, 1, 6]]
    objects = [
        {"id": 1, "image_id": 1, "category_id": 3, "segmentation": polygon, **box},
        {"id": 2, "image_id": 1, "category_id": 5, "segmentation": plain, **box},
        {"id": 3, "image_id": 2, "category_id": 9, "segmentation": crowd, **box},
    ]
    objects[2]["iscrowd"] = 1
    size = {"height": HEIGHT, "width": WIDTH}
    return {
        "images": [{"id": i, "file_name": f"{i}.png", **size} for i in (1, 2)],
        "annotations": objects,
        "categories": [
            {"id": number, "name": name}
            for number, name in zip((3, 5, 9), CLASSES, strict=True)
        ],
    }


def detector(folder: Path, content: dict, classes=CLASSES, **loader) -> Config:
    (folder / "train.json").write_text(json.dumps(content))
    (folder / "val.json").write_text(json.dumps(coco()))
    load = {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True}
    dataset = {
        "type": "CocoDataset",
        "data_root": str(folder),
        "data_prefix": {"img": "images/"},
        "metainfo": {"classes": classes},
        "pipeline": [{"type": "LoadImageFromFile"}, load],
    }
    train, val = ({**dataset, "ann_file": f"{s}.json"} for s in ("train", "val"))
    return Config(
        {
            "default_scope": "mmdet",
            "train_dataloader": {"batch_size": 2, "dataset": train, **loader},
            "val_dataloader": {"batch_size": 1, "dataset": val},
            "val_evaluator": {"type": "CocoMetric", "metric": ["bbox", "segm"]},
        }
    )


def rle(**changes) -> dict:
    good = {"counts": [16, 24, 40], "size": [HEIGHT, WIDTH]} | changes
    return {"segmentation": {k: v for k, v in good.items() if v is not None}}


# What becomes of the first object, and the kind of fault.
OBJECTS = [
    ({"bbox": [1, 2, NAN, 4]}, "box is not four numbers"),
    ({"bbox": [1, 2, float("inf"), 4]}, "box is not four numbers"),
    ({"bbox": [1, 2, 3]}, "box is not four numbers"),
    ({"bbox": None}, "box is not four numbers"),
    ({"bbox": "1 2 3 4"}, "box is not four numbers"),
    ({"bbox": [5, 6, -4, -5]}, "box has a negative size"),
    ({"bbox": [1e30, 1, 4, 5]}, "box lies far outside its image"),
    ({"area": "20"}, "area is not a number"),
    ({"image_id": 99}, "annotation of an unknown image"),
    ({"image_id": [1]}, "annotation of an unknown image"),
    ({"category_id": 4}, "annotation of an unknown category"),
    ({"category_id": {}}, "annotation of an unknown category"),
    ({"id": None}, "annotation has no valid id"),
    ({"id": 3}, "several annotations have one id"),
    ({"segmentation": None}, "object has no mask"),
    ({"segmentation": []}, "object has no mask"),
    ({"segmentation": [[1.0, 2.0]]}, "object has no mask"),
    ({"segmentation": 5}, "mask is neither polygons nor RLE"),
    ({"segmentation": "mask"}, "mask is neither polygons nor RLE"),
    ({"segmentation": [1.0, 1, 5, 1, 5, 6]}, "polygon is not a list of numbers"),
    ({"segmentation": [[1, 1, NAN, 1, 5, 6]]}, "polygon is not a list of numbers"),
    ({"segmentation": [["1", "1", "5", "1", "5"]]}, "polygon is not a list of numbers"),
    ({"segmentation": ["1151"]}, "polygon is not a list of numbers"),
    ({"segmentation": [[1, 1, None, 1, 5, 6]]}, "polygon is not a list of numbers"),
    (
        {"segmentation": [[1, 1, 5, 1, 5, 6, 1]]},
        "polygon has an odd number of coordinates",
    ),
    (
        {"segmentation": [[1, 1, 1e9, 1, 5, 6]]},
        "polygon lies far outside its image",
    ),
    (rle(size=[10**6, 10**6]), "mask has another size"),
    (rle(size=[WIDTH, HEIGHT]), "mask has another size"),
    (rle(size=None), "mask has another size"),
    (rle(counts=None), "RLE has no counts"),
    (rle(counts=7), "RLE counts are broken"),
    (rle(counts=["16", "24", "40"]), "RLE counts are broken"),
    (rle(counts=[16, -24, 88]), "RLE counts are broken"),
    (rle(counts=[16, NAN, 40]), "RLE counts are broken"),
    (rle(counts="no RLE, ü"), "RLE counts are broken"),
    (rle(counts="`" * 9 + "0"), "RLE counts are broken"),  # 50 bits
    (rle(counts="52P"), "RLE counts are broken"),  # ends within a number
    (rle(counts=""), "RLE counts are broken"),
    (rle(counts=[16, 24, 41]), "RLE has another length than its image"),
    (rle(counts=[]), "RLE has another length than its image"),
    (rle(counts="52203"), "RLE has another length than its image"),
    ({"iscrowd": 1, **rle(counts="52203")}, "RLE has another length than its image"),
]


def the_first(part: str, **changes):
    return lambda content: content[part][0].update(changes)


FILES = [
    (the_first("images", id=[1]), "image has no valid id"),
    (the_first("images", file_name=3), "image has no valid file name"),
    (the_first("images", width="10"), "image has no valid size"),
    (the_first("images", height=0), "image has no valid size"),
    (the_first("images", width=10**6, height=10**6), "image has no valid size"),
    (the_first("images", id=2), "two images have one id"),
    (the_first("categories", id=5), "two categories have one id"),
    (the_first("categories", id=[]), "category has no valid id or name"),
    (the_first("categories", name="car"), "two categories have one name"),
    (
        the_first("categories", name="Person"),
        "class of the config is not in the annotations",
    ),
    (
        lambda content: content["categories"].reverse(),
        "classes have another order than the annotations",
    ),
    (lambda content: content["images"].clear(), "there are no images"),
    (
        lambda content: content["annotations"].clear(),
        "there are no objects of the classes",
    ),
]


def refusal(cfg: Config, *splits: str) -> str:
    with pytest.raises(DatasetError) as error:
        refuse_unusable(cfg, *(splits or ("train", "val")))
    line = str(error.value)
    assert "\n" not in line
    return line


def faults_of(cfg: Config, split: str = "train") -> dict[str, list[str]]:
    ((name, settings),) = named_parts(cfg, split).items()
    return check(cfg, settings, name, Options(decode=False, workers=1))[0].faults


def test_sound_annotations_are_not_refused(tmp_path):
    cfg = detector(tmp_path, coco())
    assert refuse_unusable(cfg, "train", "val", "test") == []
    assert list(faults_of(cfg)) == ["file is missing"]  # the images


@pytest.mark.parametrize(("changes", "kind"), OBJECTS)
def test_a_broken_object_is_refused_and_found(tmp_path, changes, kind):
    content = coco()
    content["annotations"][0].update(changes)
    cfg = detector(tmp_path, content)
    line = refusal(cfg)
    assert f"cannot use the data of train: {tmp_path}/train.json: {kind}: " in line
    assert f"{kind}: annotation " in line or "have one id: 3" in line
    assert refuse.REFUSED[kind] in line
    assert len(faults_of(cfg)[kind]) == 1


@pytest.mark.parametrize(("spoil", "kind"), FILES)
def test_broken_images_and_categories_are_refused_and_found(tmp_path, spoil, kind):
    content = coco()
    spoil(content)
    cfg = detector(tmp_path, content)
    line = refusal(cfg)
    assert line.startswith("cannot use the data of train: ")
    assert f"{tmp_path}/train.json" in line
    assert f"{kind}: " in line
    assert kind in faults_of(cfg)


def test_another_order_of_the_classes_shows_both(tmp_path):
    cfg = detector(tmp_path, coco(), ("person", "dog", "car"))
    line = refusal(cfg)
    assert "config: person, dog, car; file: person, car, dog" in line
    assert "names would be swapped" in line


def test_names_that_are_missing_show_those_that_are_there(tmp_path):
    cfg = detector(tmp_path, coco(), ("person", "Cars", "bicycle"))
    (first, second) = faults_of(cfg)["class of the config is not in the annotations"]
    assert first == "Cars; the file has person, car, dog; the nearest is car"
    assert second == "bicycle; the file has person, car, dog"
    line = refusal(detector(tmp_path, coco(), "person"))
    assert "classes are a text: 'person'" in line
    # COCO's own classes, which a config has that sets none.
    cfg = detector(tmp_path, coco())
    del cfg.train_dataloader.dataset["metainfo"]
    assert "(and 76 more)" in refusal(cfg)  # person, car and dog are among the 80


def test_classes_may_leave_out_categories(tmp_path):
    assert refuse_unusable(detector(tmp_path, coco(), ("car", "dog")), "train") == []
    assert "another order" in refusal(detector(tmp_path, coco(), ("dog", "car")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "train.json does not exist"),
        ('{"images": [', "train.json is not JSON: Expecting value: line 1 column 13"),
        ("[]", "has no list 'images'"),
        ('{"images": [], "categories": []}', "has no list 'annotations'"),
        ('{"images": [3]}', "one of 'images' is 3"),
        ('{"images": [{"id": 1}]}', "one of 'images' lacks file_name, height, id"),
    ],
)
def test_files_that_are_no_annotations_are_refused(tmp_path, text, message):
    cfg = detector(tmp_path, coco())
    path = tmp_path / "train.json"
    path.unlink() if text is None else path.write_text(text)
    assert message in refusal(cfg)


def test_a_val_set_without_objects_is_a_fault_and_a_test_set_may_be_one(tmp_path):
    cfg = detector(tmp_path, coco())
    content = coco()
    del content["annotations"]
    (tmp_path / "val.json").write_text(json.dumps(content))
    assert "has no list 'annotations'" in refusal(cfg)
    content["annotations"] = []
    (tmp_path / "val.json").write_text(json.dumps(content))
    assert "there are no objects of the classes" in refusal(cfg)
    assert "there are no objects of the classes" in faults_of(cfg, "val")
    cfg.test_dataloader = cfg.val_dataloader
    cfg.test_evaluator = {"type": "CocoMetric", "format_only": True}
    assert refuse_unusable(cfg, "test") == []


def test_masks_matter_where_they_are_read(tmp_path):
    content = coco()
    content["annotations"][0]["segmentation"] = 5
    cfg = detector(tmp_path, content)
    cfg.train_dataloader.dataset.pipeline[1].with_mask = False
    assert refuse_unusable(cfg, "train") == []
    cfg.val_dataloader.dataset.ann_file = "train.json"
    cfg.val_dataloader.dataset.pipeline = []
    assert "neither polygons nor RLE" in refusal(cfg)  # the metric reads them
    cfg.val_evaluator.metric = "bbox"
    assert refuse_unusable(cfg, "train", "val") == []


def test_a_head_of_other_classes_is_refused(tmp_path):
    cfg = detector(tmp_path, coco())
    cfg.model = {"bbox_head": {"num_classes": 80}}
    assert "num_classes is 80, and the dataset has 3 classes" in refusal(cfg)


def test_a_large_file_is_left_out_and_named(tmp_path, monkeypatch):
    cfg = detector(tmp_path, coco(), ("no", "such", "names"))
    monkeypatch.setattr(refuse, "LARGEST_JSON", 10)
    (line,) = refuse_unusable(cfg, "train")
    assert line.startswith(f"{tmp_path}/train.json (0 MB) is left to ")


def test_thousands_of_images_take_no_time(tmp_path):
    content, (one, _), objects = coco(), coco()["images"], coco()["annotations"]
    content["images"] = [{**one, "id": i} for i in range(3000)]
    content["annotations"] = [
        {**objects[i % 3], "id": i, "image_id": i // 8} for i in range(24_000)
    ]
    cfg = detector(tmp_path, content)
    refuse_unusable(cfg, "val")  # imports
    before = time.process_time()
    assert refuse_unusable(cfg, "train") == []
    assert time.process_time() - before < 3


def test_lengths_of_compressed_counts_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for height, width, share in ((1, 1, 0), (7, 5, 0.5), (90, 70, 0.01), (300, 400, 1)):
        mask = np.asfortranarray(rng.random((height, width)) < share, np.uint8)
        mask[: height // 2] = 0
        counts = pycocotools_mask.encode(mask)["counts"].decode()
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *edges, flat.size]).tolist()
        assert rle_lengths(counts) == ([0] if flat[0] else []) + runs


def panoptic(folder: Path, spoil=lambda content: None) -> Config:
    content = coco()
    for category in content["categories"]:
        category["isthing"] = 1
    segment = {"id": 7, "category_id": 3, "bbox": [1, 1, 4, 5], "area": 20}
    content["annotations"] = [
        {"image_id": i, "file_name": f"{i}.png", "segments_info": [dict(segment)]}
        for i in (1, 2)
    ]
    spoil(content)
    cfg = detector(folder, content)
    dataset = cfg.train_dataloader.dataset
    dataset.type, dataset.pipeline = "CocoPanopticDataset", []
    dataset.data_prefix = {"img": "images/", "seg": "maps/"}
    dataset.metainfo |= {"thing_classes": CLASSES, "stuff_classes": ()}
    return cfg


def the_first_segment(**changes):
    def spoil(content):
        content["annotations"][0]["segments_info"][0].update(changes)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (the_first_segment(bbox=[1, 1, NAN, 5]), "box is not four numbers"),
        (the_first_segment(category_id=4), "annotation of an unknown category"),
        (the_first_segment(id=[7]), "annotation has no valid id"),
        (the_first("annotations", image_id=[2]), "annotation of an unknown image"),
        (the_first("annotations", segments_info=3), "segments are not a list"),
        (the_first("annotations", segments_info=[3]), "segments are not a list"),
        (
            lambda content: content["categories"][1].pop("isthing"),
            "category lacks isthing",
        ),
        (
            lambda content: content["categories"].reverse(),
            "classes have another order than the annotations",
        ),
        (
            lambda content: content["categories"][0].update(isthing=0),
            "stuff comes before things",
        ),
    ],
)
def test_broken_segments_are_refused_and_found(tmp_path, spoil, kind):
    assert refuse_unusable(panoptic(tmp_path), "train") == []
    cfg = panoptic(tmp_path, spoil)
    assert kind in refusal(cfg)
    assert kind in faults_of(cfg)


# ---- folders ------------------------------------------------------------------------


def classifier(folder: Path, train=("cat", "dog"), val=("cat", "dog")) -> Config:
    for split, names in (("train", train), ("val", val)):
        for name in names:
            path = folder / split / name / "deep" / "1.PNG"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (WIDTH, HEIGHT)).save(path)

    def loader(split: str) -> dict:
        dataset = {"type": "CustomDataset", "data_root": str(folder)}
        return {"batch_size": 2, "dataset": {**dataset, "data_prefix": split}}

    return Config(
        {
            "default_scope": "mmpretrain",
            "model": {"head": {"num_classes": len(train)}},
            "train_dataloader": loader("train"),
            "val_dataloader": loader("val"),
        }
    )


def test_folders_of_classes_are_judged(tmp_path):
    cfg = classifier(tmp_path)
    assert refuse_unusable(cfg, "train", "val") == []
    cfg.model.head.num_classes = 3
    assert "num_classes is 3, and the dataset has 2 classes" in refusal(cfg)
    assert len(faults_of(cfg)["model and dataset differ"]) == 1
    cfg.model.head.num_classes = 2
    cfg.train_dataloader.dataset.metainfo = {"classes": ("cat", "dog", "cow")}
    assert "differ: 2 folders, 3 classes" in refusal(cfg)


def test_train_and_val_have_the_same_folders(tmp_path):
    cfg = classifier(tmp_path, ("cat", "cow", "dog"), ("cat", "dog", "emu"))
    line = refusal(cfg)
    assert "only train has cow; only val has emu" in line
    assert "train and val have other classes" in faults_of(cfg, "val")


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("nowhere", "folder does not exist"),
        ("train/cat/deep", "folder has no folders of classes"),
        ("empty", "folder has no images"),
    ],
)
def test_a_folder_without_classes_or_images_is_refused(tmp_path, prefix, message):
    cfg = classifier(tmp_path)
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    (tmp_path / "empty" / "cat" / "note.txt").write_text("")
    cfg.train_dataloader.dataset.data_prefix = prefix
    assert f"{message}: {tmp_path / prefix}" in refusal(cfg)
    with pytest.raises(DatasetError):
        faults_of(cfg)


def segmentor(folder: Path) -> Config:
    for name in ("a", "b"):
        for kind, mode, suffix in (("images", "RGB", "jpg"), ("maps", "L", "png")):
            path = folder / kind / "deep" / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (WIDTH, HEIGHT)).save(path)
    dataset = {
        "type": "BaseSegDataset",
        "data_root": str(folder),
        "data_prefix": {"img_path": "images", "seg_map_path": "maps"},
        "metainfo": {"classes": ("sky", "road")},
        "pipeline": [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}],
    }
    return Config(
        {
            "default_scope": "mmseg",
            "model": {"decode_head": {"num_classes": 2}},
            "train_dataloader": {"batch_size": 2, "dataset": dataset},
        }
    )


def test_label_maps_are_judged(tmp_path):
    cfg = segmentor(tmp_path)
    assert refuse_unusable(cfg, "train") == []
    dataset, first = cfg.train_dataloader.dataset, tmp_path / "maps" / "deep" / "a.png"
    cfg.model.decode_head.num_classes = 3
    assert "num_classes is 3, and the dataset has 2 classes" in refusal(cfg)
    Image.new("RGB", (WIDTH, HEIGHT)).save(first)
    assert f"label map has several channels: {first}" in refusal(cfg)
    first.write_bytes(b"")
    assert f"label map cannot be read: {first}" in refusal(cfg)
    # mmseg reads the lowest 8 bits.
    Image.fromarray(np.full((HEIGHT, WIDTH), 256, np.uint16)).save(first)
    assert faults_of(cfg)["label out of range"] == [f"{first}: 256"]
    cfg.model.decode_head.ignore_index = 1000
    assert "label out of range" in faults_of(cfg)
    first.unlink()
    assert f"label map is missing: {first}" in refusal(cfg)
    dataset.img_suffix = ".png"
    assert f"folder has no images: {tmp_path}/images, of .png" in refusal(cfg)
    dataset.data_prefix.seg_map_path = "nowhere"
    assert f"folder does not exist: {tmp_path}/nowhere" in refusal(cfg)
    dataset.pipeline = dataset.pipeline[:1]  # no labels are read
    dataset.img_suffix = ".jpg"
    cfg.model.decode_head.num_classes = 2
    assert refuse_unusable(cfg, "train") == []


def test_other_tasks_are_left_alone():
    assert refuse_unusable(Config({"train_dataloader": {}}), "train") == []


# ---- notes --------------------------------------------------------------------------


def notes_of(cfg: Config, split: str = "train") -> list[str]:
    ((name, settings),) = named_parts(cfg, split).items()
    return check(cfg, settings, name, Options(decode=False, workers=1))[0].notes


def test_what_the_pipeline_does_to_images_is_noted(tmp_path):
    cfg = classifier(tmp_path)
    crop = {"type": "RandomCrop", "crop_size": 4, "padding": 1}
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader
    train.pipeline = [{"type": "LoadImageFromFile"}, crop]
    val.dataset.pipeline = [{"type": "LoadImageFromFile"}]
    (note,) = notes_of(cfg)
    assert note.startswith("training sees 20.0% of a photograph (median): RandomCrop")
    assert notes_of(cfg, "val") == []  # all have one size
    path = next((tmp_path / "val").rglob("*.PNG"))
    Image.new("RGB", (WIDTH + 20, HEIGHT)).save(path)
    (note,) = notes_of(cfg, "val")
    assert "images of 10 x 8 to 30 x 8 pixels: a batch of 2 is padded" in note
    assert "up to 30 x 8 (" in note
    val.batch_size = 1
    assert notes_of(cfg, "val") == []
    Image.new("1", (2000, 2000)).save(path)
    val.batch_size = 100
    (note,) = notes_of(cfg, "val")
    assert "(4.5 GiB as float32" in note
    for step in ({"type": "Resize", "scale": 4}, {"type": "ResizeEdge", "scale": 4}):
        val.dataset.pipeline = train.pipeline = [step, crop]
        assert notes_of(cfg, "val") == notes_of(cfg) == []


def test_a_crop_of_mmdet_has_the_width_first(tmp_path):
    (tmp_path / "images").mkdir()
    for image in coco()["images"]:
        path = tmp_path / "images" / image["file_name"]
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    cfg = detector(tmp_path, coco())
    crop = {"type": "RandomCrop", "crop_size": (WIDTH, 1)}
    cfg.train_dataloader.dataset.pipeline = [crop]
    (note,) = [note for note in notes_of(cfg) if "RandomCrop" in note]
    assert f"RandomCrop takes {WIDTH} x 1 of" in note


def test_a_schedule_that_does_not_fit_is_noted(tmp_path):
    cfg = classifier(tmp_path)
    cfg.train_cfg = {"max_epochs": 4}
    cfg.auto_scale_lr = {"base_batch_size": 16}
    cfg.param_scheduler = [
        {"type": "LinearLR", "by_epoch": False, "begin": 0, "end": 500},
        {"type": "MultiStepLR", "by_epoch": True, "end": 4, "milestones": [3, 8]},
        {"type": "CosineAnnealingLR", "begin": 1, "T_max": 3},
        {"type": "cluenet_mm.WarmupLR"},
    ]
    rate, warmup, steps = notes_of(cfg)
    assert "for a batch of 16 (8 processes make it), and one process makes 2" in rate
    assert "param_scheduler.0 (LinearLR) runs to iteration 500" in warmup
    assert "training ends at 4:" in warmup  # 4 epochs of one batch
    assert "param_scheduler.1 (MultiStepLR) runs to epoch 8" in steps
    cfg.auto_scale_lr.enable = True
    cfg.train_cfg.max_epochs = 500
    assert notes_of(cfg) == []


class Labeled(list):
    def get_data_info(self, index: int) -> dict:
        return self[index]


def test_an_image_that_pillow_would_refuse_is_sound(tmp_path):
    Image.new("1", (13_500, 13_500)).save(tmp_path / "large.png")
    found = image_fault(str(tmp_path / "large.png"), decode=False)
    assert found == ("", (13_500, 13_500))


def test_samples_are_chosen_from_all_classes():
    folder = Labeled({"gt_label": label} for label in [0] * 50 + [1] * 50 + [2] * 3)
    assert choose_samples(folder, 4) == [0, 1, 50, 100]
    assert choose_samples(folder, 2) == [0, 50]
    assert choose_samples(folder, 1000) == list(range(103))
    objects = [[0, 1], [1], [], [2], [0]]
    images = Labeled(
        {"instances": [{"bbox_label": label} for label in labels]} for labels in objects
    )
    assert choose_samples(images, 3) == [0, 1, 3]
    assert choose_samples(Labeled({} for _ in range(10)), 3) == [0, 3, 6]


# ---- the tools ----------------------------------------------------------------------


def test_train_ends_with_one_line_where_pycocotools_would_crash(tmp_path):
    folder = dense_data.write(tmp_path)
    path = folder / "coco.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = rle(size=[10**6, 10**6])["segmentation"]
    path.write_text(json.dumps(content))
    config = dense_data.detector_config(folder)
    done = processes.run("train.py", config, "--work-dir", folder / "work")
    assert done.returncode == 1
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert f"{path}: mask has another size: annotation 1 in scene.png" in line
    assert "Traceback" not in done.stderr
    assert not (folder / "work").exists()
