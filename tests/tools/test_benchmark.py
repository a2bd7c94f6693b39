"""tools/analysis/benchmark.py and the processes that it measures in."""

import importlib.util
import json
import os
from statistics import median

import processes
import pytest
import torch
import toy
from mmengine.config import Config

from cluenet_mm.benchmark import in_process, measure, measure_in_turns, sides_of
from cluenet_mm.flops import count_config, open_config, total
from cluenet_mm.inference import build_model

CONFIG = "cluenet/cls_digits"
TOOL = "analysis/benchmark.py"
RESNET = "mmpretrain::resnet/resnet18_8xb16_cifar10.py"


@pytest.fixture(scope="module", autouse=True)
def server():
    """Forks of the tests' server, which knows all libraries, are measured."""
    processes.context()


def side(config: str = "cluenet/cls_mini_imagenet_micro", **changes: object) -> dict:
    chosen = {"config": config, "impl": "auto", "onnx": None, "what": "backbone"}
    chosen |= {"mode": "infer", "shape": [32, 32], "batch": 1, "device": "cpu"}
    chosen |= {"amp": None, "compile": False, "with_cp": False, "threads": 1}
    return {**chosen, "seconds": 0.01, **changes}


def settings(**changes: object) -> dict:
    chosen = side(**changes)
    for name in ("config", "impl", "onnx", "mode", "shape", "batch"):
        del chosen[name]
    return {**chosen, "processes": 1}


def cases(*configs: str, **more: object) -> list[dict]:
    sides = sides_of(configs, ["naive"], "backbone", None)
    shared = {"mode": "infer", "shape": [64, 48], "batch": 2}
    return [{**side, **shared, **more} for side in sides]


def test_sides_are_configs_with_implementations():
    sides = sides_of([CONFIG, RESNET], ["naive", "auto"], "backbone", None)
    assert [(side["label"], side["impl"]) for side in sides] == [
        ("CLUENet naive", "naive"),
        ("CLUENet auto", "auto"),
        ("ResNet_CIFAR 18", None),  # which has no choice
    ]
    sides = sides_of(["cluenet/mask_rcnn_coco_tiny"], ["auto"], "model", "x.onnx")
    assert [side["label"] for side in sides] == [
        "MaskRCNN CLUENet tiny auto",
        "MaskRCNN CLUENet tiny onnxruntime",
    ]


def test_the_sides_are_measured_in_turns():
    first, second = both = cases(CONFIG, RESNET, mode="train")
    machine = measure_in_turns(both, settings() | {"processes": 2})
    assert machine["threads"] == 1
    for case in both:
        speeds = [median(rounds) for rounds in case["rounds"]]
        assert len(speeds) == 2
        assert case["images_per_second"] == pytest.approx(sum(speeds) / 2)
        assert case["images_per_second_range"] == [min(speeds), max(speeds)]
        assert case["peak_memory_mib"] > 0
        macs = case["macs_per_image"] * case["images_per_second"]
        assert case["macs_per_second"] == pytest.approx(macs)
    assert "ratio" not in first
    pairs = zip(second["rounds"], first["rounds"], strict=True)
    ratios = [median(ours) / median(theirs) for ours, theirs in pairs]
    assert second["ratio"]["images_per_second"] == pytest.approx(sum(ratios) / 2)
    assert second["ratio"]["images_per_second_range"] == [min(ratios), max(ratios)]
    parts = count_config(open_config(RESNET), (64, 48))
    head = next(part for part in parts if part.name == "head")
    assert second["parameters"] == total(parts).parameters - head.parameters


def test_a_side_that_fails_leaves_the_others(tmp_path):
    config = tmp_path / "resnet.py"
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=7))\n"
    )
    broken, whole = both = cases(str(config), CONFIG)
    measure_in_turns(both, settings())
    assert "invalid depth 7" in broken["error"]
    assert "\n" not in broken["error"]
    assert whole["images_per_second"] > 0
    assert "ratio" not in whole


def test_the_tool_writes_what_it_prints(tmp_path):
    words = (TOOL, CONFIG, "--shape", 64, 48, "--batch", 2, "--device", "cpu")
    words += ("--threads", 1, "--seconds", 0.01, "--processes", 1)
    output = toy.run(tmp_path, *words, "--json", "out/result.json")
    results = json.loads((tmp_path / "out/result.json").read_text())
    assert os.listdir(tmp_path / "out") == ["result.json"]
    assert results["threads"] == 1
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert results["device"] in output
    (case,) = results["cases"]
    assert (case["mode"], case["shape"], case["batch"]) == ("infer", [64, 48], 2)
    assert case["label"] == "CLUENet auto"
    assert f"{case['images_per_second']:.2f}" in output


def test_peak_memory_sees_the_table_and_what_a_backward_pass_keeps():
    changes = ({"impl": "naive"}, {}, {"mode": "train"})
    sides = [side(shape=[384, 384], **change) for change in changes]
    naive, auto, train = (in_process(side)["peak_memory_mib"] for side in sides)
    points = 96 * 96
    table = points * (points // 4) * 4 / 2**20  # 81 MiB
    assert naive > table
    assert naive - auto > 0.5 * table
    assert train > auto + 3.0e6 * 4 / 2**20  # the gradients at least


def test_a_backbone_that_refuses_small_maps_is_measured(tmp_path):
    config = tmp_path / "swin.py"
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        "arch = dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4)\n"
        "model = dict(backbone=dict(type='SwinTransformer', arch=arch, img_size=224))\n"
    )
    found = measure(side(str(config), impl=None, shape=[224, 224]))
    assert min(found["images_per_second"]) > 0


def test_a_process_that_fails_or_dies_is_one_line(tmp_path):
    result = in_process(side("cluenet/nothing"))
    assert result["error"].startswith("cannot read config cluenet/nothing")
    config = tmp_path / "killed.py"
    config.write_text("__import__('signal').raise_signal(9)\n")
    result = in_process(side(str(config)))
    assert result == {"error": "the process was killed: out of memory?"}


@pytest.mark.parametrize(
    "config",
    [
        "fec/cls_digits",
        "cluenet/mask_rcnn_digits",
        "cluenet/semantic_fpn_digits",
        "clusterformer/panoptic_digits",
    ],
)
def test_a_training_step_of_a_whole_model(config):
    found = measure(side(config, what="model", mode="train", shape=[64, 96]))
    assert min(found["images_per_second"]) > 0
    assert found["peak_memory_mib"] > 5  # the gradients alone


def test_a_training_step_of_a_backbone_that_hands_out_memberships():
    found = measure(side("cluenet/native_digits", mode="train", shape=[64, 96]))
    assert min(found["images_per_second"]) > 0


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))),
    reason="no onnxruntime",
)
def test_an_exported_file_runs_beside_pytorch(tmp_path):
    config = tmp_path / "resnet.py"
    config.write_text(f"_base_ = '{RESNET}'\n")
    torch.manual_seed(0)
    model = build_model(Config.fromfile(config))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "resnet.pth")
    words = (config, "resnet.pth", "resnet.onnx", "--batch-size", 2)
    toy.run(tmp_path, "deploy/export_onnx.py", *words)
    shared = {"mode": "infer", "shape": [32, 32], "batch": 2}
    onnx = str(tmp_path / "resnet.onnx")
    sides = sides_of([str(config)], ["auto"], "model", onnx)
    ours, exported = both = [{**side, **shared} for side in sides]
    measure_in_turns(both, settings(what="model"))
    assert ours["label"] == "ImageClassifier ResNet_CIFAR 18"
    assert exported["label"] == "ImageClassifier ResNet_CIFAR 18 onnxruntime"
    assert exported["macs_per_image"] == ours["macs_per_image"]
    assert exported["images_per_second"] > 0
    assert exported["ratio"]["images_per_second"] > 0


def test_a_wrong_choice_is_refused(tmp_path):
    for words, message in (
        (("cluenet/cls_digit",), "cannot find a config named 'cluenet/cls_digit'"),
        ((CONFIG, "--impl", "dense"), "invalid choice: 'dense'"),
        ((CONFIG, "--onnx", "x.onnx"), "--onnx needs --what model"),
        ((CONFIG, "--batch", "max", "--device", "cpu"), "--batch max needs a GPU"),
    ):
        status = 1 if len(words) == 1 else 2
        assert message in toy.run(tmp_path, TOOL, *words, status=status)
