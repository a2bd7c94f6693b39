"""Photographs of one's own: the config that every family has for a folder of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

pytest.importorskip("mmpretrain")

import dense_data

from cluenet_mm import config_names, config_path, load_model
from cluenet_mm.checkpoint import save_checkpoint
from cluenet_mm.config import read_config
from cluenet_mm.config.variables import fill_names
from cluenet_mm.files import write_text
from cluenet_mm.inference import build_model

NAMES = [
    name
    for name in config_names()
    if "_folder" in name
    and Config.fromfile(config_path(name)).get("num_classes") == "auto"
]
SPLITS = ("train", "val", "test")
CLASSES = ("bird", "cat", "dog")
SIZES = ((20, 30), (40, 24), (33, 33), (90, 18))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """``photos/{train,val}/<class>``, pictures of different sizes, some gray."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for split, number in (("train", 4), ("val", 2)):
        for label, name in enumerate(CLASSES):
            target = folder / "photos" / split / name
            target.mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 90, (*SIZES[(i + label) % 4], 3), np.uint8)
                pixels[..., label] += 160
                image = Image.fromarray(pixels)
                image = image.convert("L") if i == 1 else image
                image.save(target / f"{i}.png")
    (folder / "mine.py").write_text(
        f'_base_ = "{config_path("cluenet/cls_folder")}"\n'
        'data_root = "photos"\nimage_size = 24\nmax_epochs = 2\n'
    )
    return folder


def sizes(cfg) -> set:
    pipelines = [
        cfg[f"{split}_dataloader"].dataset.pipeline
        for split in ("train", "val", "test")
    ]
    return {
        step.get("scale", step.get("crop_size"))
        for pipeline in pipelines
        for step in pipeline
        if "Resize" in step.type or "Crop" in step.type
    }


def roots(cfg) -> set:
    return {cfg[f"{split}_dataloader"].dataset.data_root for split in SPLITS}


def test_every_family_has_one():
    names = {name for name in NAMES if name.endswith("/cls_folder.py")}
    families = ("cluenet", "clusterformer", "coc", "fec")
    assert names == {f"{family}/cls_folder.py" for family in families}


@pytest.mark.parametrize("name", NAMES)
def test_options_reach_every_place(name, photos):
    root = str(photos / "photos")
    options = {"data_root": root, "image_size": 96, "max_epochs": 7}
    cfg = read_config(name, options)
    assert (sizes(cfg), roots(cfg)) == ({96}, {root})
    assert cfg.train_cfg.max_epochs == 7
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 3
    assert "$" not in cfg.pretty_text
    assert not {"data_root", "image_size", "max_epochs", "num_classes"} & set(cfg)


def test_a_child_sets_names_and_an_option_still_wins(photos, monkeypatch):
    monkeypatch.chdir(photos)
    cfg = read_config("mine.py")
    assert (sizes(cfg), roots(cfg)) == ({24}, {"photos"})
    cfg = read_config("mine.py", {"image_size": 48, "train_cfg.max_epochs": 5})
    assert (sizes(cfg), cfg.train_cfg.max_epochs) == ({48}, 5)
    dumped = photos / "dumped.py"
    write_text(dumped, cfg.pretty_text)
    assert sizes(read_config(str(dumped))) == {48}


def test_names_in_tuples_and_lists_are_filled():
    cfg = Config({"side": 8, "a": [{"scale": ("$side", "$side")}], "b": "costs $side"})
    fill_names(cfg)
    assert cfg.to_dict() == {"a": [{"scale": (8, 8)}], "b": "costs $side"}
    # Values that use names themselves, and a name that MMEngine reads.
    cfg = Config({"side": 8, "crop": "$side", "a": {"size": "$crop"}})
    fill_names(cfg)
    assert cfg.to_dict() == {"a": {"size": 8}}
    cfg = Config({"work_dir": "mine", "hook": {"out_dir": "$work_dir"}})
    fill_names(cfg)
    assert cfg.to_dict() == {"work_dir": "mine", "hook": {"out_dir": "mine"}}


def test_a_name_without_a_value_is_an_error():
    with pytest.raises(ValueError, match=r"cannot use \$side: the config has no side"):
        fill_names(Config({"a": "$side"}))


def test_classes_that_are_named_are_counted_without_a_folder():
    options = {"train_dataloader.dataset.metainfo": {"classes": ("a", "b", "c", "d")}}
    assert read_config("cluenet/cls_folder", options).model.head.num_classes == 4
    cfg = read_config("cluenet/cls_folder", {"num_classes": 9})
    assert cfg.model.head.num_classes == 9


def test_a_wrong_root_or_a_flat_folder_is_one_line(photos, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "flat" / "train").mkdir(parents=True)
    for root, fault in (("none", "is not a folder"), ("flat", "has no folders")):
        words = ("train.py", "mine.py", "--cfg-options", f"data_root={root}")
        ending, printed = dense_data.run_tool(*words)
        assert ending.startswith(
            f"error: cannot count the classes: {root}/train {fault}"
        )
        assert ending.endswith("or set num_classes")
        assert printed == ""
        ending, _ = dense_data.run_tool(*words, "num_classes=3")
        assert "cannot use the data of train" in ending


def test_the_tools_from_training_to_export(photos, monkeypatch):
    """One run through all that read the pipeline of the config."""
    monkeypatch.chdir(photos)
    status, printed = dense_data.run_tool("check_dataset.py", "mine.py")
    assert (status, "no faults" in printed) == (0, True), printed
    assert "padded" not in printed
    status, printed = dense_data.run_tool("train.py", "mine.py")
    assert status == 0, printed
    assert "data      train 12, val 6, classes 3" in printed
    weights = "work_dirs/mine/epoch_2.pth"
    status, printed = dense_data.run_tool("test.py", "mine.py", weights)
    assert status == 0, printed
    assert "accuracy/top1: " in printed
    command = ("infer.py", "photos/val", "mine.py", weights, "--out-dir", "found")
    status, printed = dense_data.run_tool(*command)
    assert status == 0, printed
    records = [json.loads(path.read_text()) for path in Path("found").rglob("*.json")]
    assert "dog" in str(records)
    command = ("visualize/clusters.py", "photos/val/cat/0.png", "mine.py", weights)
    status, printed = dense_data.run_tool(*command, "--out-dir", "clusters")
    assert status == 0, printed
    net = load_model("mine.py", weights)
    assert net.classes == CLASSES
    assert net.transform("photos/val/cat/0.png").shape == (1, 3, 24, 24)
    pytest.importorskip("onnx")
    words = ("deploy/export_onnx.py", "mine.py", weights, "net.onnx")
    status, printed = dense_data.run_tool(*words)
    assert status == 0, printed
    assert "24" in printed


def test_two_networks_look_at_one_photograph(photos):
    """Each through the transform that fits its weights."""
    photo = photos / "photos/val/dog/0.png"
    torch.manual_seed(0)
    model = build_model(read_config("fec/cls_digits"))
    model.init_weights()
    save_checkpoint({"state_dict": model.state_dict()}, photos / "fec.pth")
    published = load_model("cluenet_micro_cifar100")
    other = load_model("fec/cls_digits", photos / "fec.pth")
    for net, classes in ((published, 100), (other, 10)):
        image = net.transform(photo)
        assert image.shape == (1, 3, 32, 32)
        found = net.predict(image, topk=classes)[0]
        assert sum(share for _, share in found) == pytest.approx(1, abs=1e-4)
        assert len(found) == classes
        assert net.clusters(image).shape[2:] == (32, 32)
    assert {"wolf", "rose"} < set(published.classes)
    # Statistics of CIFAR-100 and of the digits: each network has its own.
    difference = published.transform(photo) - other.transform(photo)
    assert difference.abs().mean() > 0.01
