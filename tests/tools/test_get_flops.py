"""Parameters and MACs are the published ones, and those counted by hand."""

import json
import re
from dataclasses import asdict

import pytest
import toy
from mmengine.config import Config

from cluenet_mm.config import image_shape
from cluenet_mm.flops import count_config, open_config, total


@pytest.mark.parametrize(
    ("config", "side", "parameters", "gmacs"),
    [
        ("cluenet/cls_cifar100", 32, 3_016_788, 0.187),
        ("cluenet/cls_mini_imagenet_micro", 224, 3_017_908, 0.654),
        ("cluenet/cls_mini_imagenet_tiny", 224, 5_680_430, 1.344),
        ("cluenet/cls_mini_imagenet_small", 224, 15_048_840, 3.193),
        ("cluenet/cls_mini_imagenet_base", 224, 30_198_452, 6.523),
        ("fec/cls_imagenet_small", 224, 5_727_528, 1.355),
        ("fec/cls_imagenet_base", 224, 15_086_848, 3.335),
        ("fec/cls_imagenet_large", 224, 29_720_344, 6.478),
    ],
)
def test_macs_are_the_published_ones(config, side, parameters, gmacs):
    cfg = open_config(config)
    assert image_shape(cfg) == (side, side)
    parts = count_config(cfg, image_shape(cfg))
    names = [part.name for part in parts]
    pyramid = ["embed", "stages.0", "reducers.0", "stages.1", "reducers.1"]
    pyramid += ["stages.2", "reducers.2", "stages.3", "norm3"]
    assert names == [*(f"backbone.{name}" for name in pyramid), "head"]
    assert total(parts).parameters == parameters
    assert total(parts).published == pytest.approx(gmacs * 1e9, rel=5e-3)


def test_macs_of_parts_that_are_easily_counted_by_hand():
    cfg = open_config("cluenet/cls_mini_imagenet_micro")
    parts = {part.name: part for part in count_config(cfg, (64, 96))}
    points = 16 * 24
    embed = points * (4 * 4 * 5 * 32 + 9 * 32)
    assert parts["backbone.embed"].executed == embed
    # Feature, table, two convolutions of the centers, skip.
    centers = points // 4
    pool = points * 32 * 32 + points * centers * 32
    pool += centers * (32 * 32 + 32 * 64) + centers * 9 * 32 * 64
    assert parts["backbone.reducers.0"].executed == pool
    assert parts["backbone.reducers.0"].published == pool
    assert parts["head"].executed == 256 * 100


def test_macs_of_a_recurrent_clustering():
    cfg = open_config("clusterformer/cls_digits")
    parts = {part.name: part for part in count_config(cfg, (64, 96))}
    points, centers, width = 32 * 48, 16, 32  # one head
    step = centers * width * width + 2 * points * centers * width
    stage = 3 * step + 2 * points * width * width  # key, value
    stage += 2 * centers * width * width  # the initial centers
    stage += (centers + points) * width * width  # dispatching
    stage += points * width * width  # the MLP behind it, half as wide between
    stage += 2 * points * width * 4 * width
    assert parts["backbone.stages.0"].executed == stage
    assert parts["backbone.stages.0"].published == stage


def test_a_detector_is_counted_up_to_its_neck():
    cfg = open_config("mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py")
    parts = {part.name: part for part in count_config(cfg, (64, 64))}
    assert parts["neck"].executed > 0
    assert parts["bbox_head"].executed == 0 < parts["bbox_head"].parameters


def test_the_image_size_of_a_detector_is_height_then_width():
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": (1333, 800)}]
    cfg = Config({"test_dataloader": {"dataset": {"pipeline": pipeline}}})
    assert image_shape(cfg) == (800, 1333)


def test_a_config_that_cannot_be_counted_says_why():
    for name, message in {
        "cluenet/cls_digit": "cannot find a config named 'cluenet/cls_digit'",
        "mmpretrain::nothing/here.py": "mmpretrain has no config nothing/here.py",
        "nobody::resnet.py": "the libraries are mmpretrain::",
        "_base_/datasets/digits": "describes no model with a backbone",
    }.items():
        with pytest.raises((FileNotFoundError, ValueError), match=re.escape(message)):
            open_config(name)


def test_an_image_that_the_model_cannot_take_is_one_line(tmp_path):
    words = ("mmpretrain::lenet/lenet5_mnist.py", "--shape", 32, 32)
    output = toy.run(tmp_path, "analysis/get_flops.py", *words, status=1)
    assert "error: cannot count mmpretrain::lenet/lenet5_mnist.py on an image" in output
    assert "Traceback" not in output


def test_the_tool_writes_the_totals(tmp_path):
    words = ("cluenet/cls_digits", "--shape", 64, 96, "--json", "out/models.json")
    output = toy.run(tmp_path, "analysis/get_flops.py", *words)
    (model,) = json.loads((tmp_path / "out/models.json").read_text())["models"]
    parts = count_config(open_config("cluenet/cls_digits"), (64, 96))
    whole = total(parts)
    assert model == {
        "config": "cluenet/cls_digits",
        "shape": [64, 96],
        "parameters": whole.parameters,
        "published": whole.published,
        "executed": whole.executed,
        "parts": [asdict(part) for part in parts],
    }
    assert f"{whole.parameters:,}" in output
