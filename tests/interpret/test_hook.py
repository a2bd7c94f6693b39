"""Cluster maps during training, in the three tasks."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluenet_mm import config_path
from cluenet_mm.interpret import (
    ClusterVisualizationHook,
    cluster_figure,
    from_sample,
    trace,
)
from cluenet_mm.interpret.figures import render


def train(name, folder, hook, others=(), **options):
    """A few iterations of a digits config, then one or two validations."""
    cfg = Config.fromfile(config_path(name))
    cfg.work_dir = str(folder)
    cfg.merge_from_dict(options)
    cfg.visualizer.vis_backends = [
        {"type": "LocalVisBackend"},
        {"type": "TensorboardVisBackend"},
    ]
    hook = {"type": "cluenet_mm.ClusterVisualizationHook", **hook}
    cfg.custom_hooks = [hook, *others]
    cfg.default_hooks.checkpoint = None
    cfg.load_from = None
    # MMEngine keeps visualizers by name, and those of mmdet and mmseg share one.
    cfg.experiment_name = "_".join([*folder.parts[-2:], *name.split("/")])
    cfg.visualizer.name = cfg.experiment_name
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def pictures(folder):
    return {p.name: cv2.imread(str(p)) for p in folder.rglob("clusters_*.png")}


def test_clusters_of_digits_as_a_classifier_learns(tmp_path):
    runner = train(
        "cluenet/cls_digits",
        tmp_path,
        {"num_images": 3, "max_heads": 2},
        [{"type": "EMAHook", "momentum": 0.5}],
        **{
            "train_dataloader.dataset.indices": 64,
            "val_dataloader.dataset.indices": 60,
            "train_cfg.max_epochs": 2,
        },
    )
    found = pictures(tmp_path)
    names = {f"clusters_{i}_{step}.png" for i in (0, 20, 40) for step in (1, 2)}
    assert set(found) == names
    # What was validated are the averaged weights.
    [ema] = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
    model = ema.ema_model.module.eval()
    inputs, image = from_sample(model, runner.val_dataloader.dataset[20])
    expected = render(cluster_figure(image, trace(model, inputs), max_heads=2))
    assert (found["clusters_20_2.png"][..., ::-1] == expected).all()
    assert (found["clusters_20_1.png"] != found["clusters_20_2.png"]).any()

    [events] = tmp_path.rglob("events.out*")
    board = EventAccumulator(str(events)).Reload()
    assert set(board.Tags()["images"]) == {f"clusters_{i}" for i in (0, 20, 40)}
    last = board.Images("clusters_20")[-1]
    assert last.step == 2
    code = np.frombuffer(last.encoded_image_string, np.uint8)
    assert (cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1] == expected).all()


@pytest.mark.parametrize("task", ["mask_rcnn", "semantic_fpn"])
def test_clusters_of_scenes_as_dense_models_learn(task, tmp_path, digits_scenes_root):
    scenes = {
        f"{split}_dataloader.dataset.{key}": value
        for split in ("train", "val", "test")
        for key, value in (("data_root", str(digits_scenes_root)), ("indices", 8))
    }
    length = (
        {"train_cfg.max_epochs": 1, "train_cfg.val_interval": 1}
        if task == "mask_rcnn"
        else {"train_cfg.max_iters": 2, "train_cfg.val_interval": 2}
    )
    scenes |= {
        f"{split}_evaluator.ann_file": str(
            digits_scenes_root / "annotations/instances_val.json"
        )
        for split in ("val", "test")
        if task == "mask_rcnn"
    }
    train(
        f"cluenet/{task}_digits",
        tmp_path / "run",
        {"indices": [1, 5], "merge": 4},
        **scenes,
        **length,
        **{"train_dataloader.batch_size": 8},
    )
    step = 1 if task == "mask_rcnn" else 2
    found = pictures(tmp_path / "run")
    assert set(found) == {f"clusters_1_{step}.png", f"clusters_5_{step}.png"}
    colors = [len(np.unique(p.reshape(-1, 3), axis=0)) for p in found.values()]
    assert min(colors) > 1000
    [events] = (tmp_path / "run").rglob("events.out*")
    board = EventAccumulator(str(events)).Reload()
    assert set(board.Tags()["images"]) == {"clusters_1", "clusters_5"}


def test_drawing_changes_nothing_of_the_training(tmp_path):
    weights = []
    for number in (0, 1):
        runner = train(
            "cluenet/cls_digits",
            tmp_path / str(number),
            {"num_images": 2, "interval": 1 + 9 * number},
            **{
                "train_dataloader.dataset.indices": 128,
                "val_dataloader.dataset.indices": 8,
                "train_cfg.max_epochs": 2,
            },
        )
        weights.append(runner.model.state_dict())
        assert len(pictures(tmp_path / str(number))) == (4, 0)[number]
    assert all(torch.equal(weights[1][name], w) for name, w in weights[0].items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 0}, "num_images must be positive"),
        ({"interval": -1}, "interval must be positive"),
        ({"coloring": "rainbow"}, "coloring must be one of"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        HOOKS.build({"type": "cluenet_mm.ClusterVisualizationHook", **options})


def test_a_position_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="indices has 7, but the validation set has 3"):
        ClusterVisualizationHook(indices=[0, 7])._read([1, 2, 3])


def test_a_model_without_clusters_is_refused_at_once():
    class Bare:
        model = torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match="cannot trace a Linear"):
        ClusterVisualizationHook().before_run(Bare())
