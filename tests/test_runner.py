"""From a config to a runner."""

import dense_data
import pytest
import toy
from mmengine.config import Config

from cluenet_mm.building import BuildError, building
from cluenet_mm.config import read_config
from cluenet_mm.runner import build_runner


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model.bogus": 1}, "cannot build model: TypeError: .*bogus"),
        ({"model.type": "Nothing"}, "cannot build model: KeyError: .*Nothing"),
        (
            {"train_dataloader.dataset.bogus": 1},
            "cannot build train_dataloader: TypeError: .*bogus",
        ),
        (
            {"val_dataloader.dataset": {"type": "mmpretrain.CustomDataset"}},
            "cannot build val_dataloader.*: ",
        ),
        (
            {"val_evaluator.bogus": 1},
            "cannot build val_evaluator: TypeError: .*bogus",
        ),
        (
            {"optim_wrapper.optimizer.type": "Adamm"},
            "cannot build optim_wrapper .*Adamm.*: TypeError: ",
        ),
        ({"train_cfg.bogus": 1}, "cannot build train_cfg: TypeError: .*bogus"),
        (
            {"optim_wrapper.optimizer": {"type": "AdamW", "lr": -1}},
            "cannot build optim_wrapper",
        ),
        (
            {"param_scheduler.0.type": "NoSched"},
            "cannot build param_scheduler: .*NoSched",
        ),
        ({"param_scheduler.0.start_factor": -1}, "cannot build param_scheduler: "),
        ({"compile": 5}, "cannot build compile: "),
        ({"custom_hooks.0.type": "Nope"}, "cannot build custom_hooks: .*Nope"),
        ({"log_level": "NOPE"}, "cannot build log_level: "),
        ({"randomness.seed": -1}, "cannot build randomness: .*between 0 and"),
    ],
)
def test_a_part_that_cannot_be_built_is_named(tmp_path, options, message):
    cfg = read_config(str(toy.write_config(tmp_path)), options)
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = tmp_path.name  # of a logger for itself
    with pytest.raises(BuildError, match=f"^{message}") as end, building(cfg):
        build_runner(cfg, "train", "val").train()
    assert "\n" not in str(end.value)


def test_a_config_made_in_python_has_no_file_to_name(tmp_path):
    cfg = Config(read_config(str(toy.write_config(tmp_path))).to_dict())
    cfg.work_dir, cfg.experiment_name = str(tmp_path), tmp_path.name
    del cfg.train_dataloader["dataset"]
    with (
        pytest.raises(BuildError, match="cannot build train_dataloader"),
        building(cfg),
    ):
        build_runner(cfg, "train", "val").train()


def test_parts_may_be_none_and_a_work_dir_a_number(tmp_path, monkeypatch):
    config = toy.write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = ("work_dir=2024", "default_hooks=None", "auto_scale_lr=None")
    words = ("train.py", config, "--cfg-options", *options, "train_cfg.max_epochs=1")
    status, printed = dense_data.run_tool(*words)
    assert status == 0, printed
    assert (tmp_path / "2024").is_dir()


def test_broken_annotations_are_named_with_the_tool_that_says_more(tmp_path):
    pytest.importorskip("mmdet")
    (tmp_path / "broken.json").write_text('{"images": [')
    cfg = read_config("cluenet/mask_rcnn_digits")
    cfg.work_dir = str(tmp_path)
    cfg.train_dataloader.num_workers = 0
    cfg.train_dataloader.dataset = {
        "type": "CocoDataset",
        "data_root": str(tmp_path),
        "ann_file": "broken.json",
    }
    with pytest.raises(BuildError) as end:
        build_runner(cfg, "train")
    for words in (
        f"cannot build train_dataloader, data_root='{tmp_path}', "
        "ann_file='broken.json': JSONDecodeError: ",
        ". tools/check_dataset.py cluenet/mask_rcnn_digits.py says more",
    ):
        assert words in str(end.value)


FOREIGN = """
_base_ = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
backbone = dict(type="cluenet_mm.CLUENet", arch="tiny", out_indices=(0, 1, 2, 3))
"""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("backbone=backbone", "unexpected keyword argument .* write _delete_=True"),
        (
            "backbone=dict(_delete_=True, **backbone)",
            r"cannot use model\.neck: it is for maps of \[256, 512, 1024, 2048\] "
            r"channels, and the backbone gives \[32, 64, 196, 320\]\. Set "
            r"model\.neck\.in_channels",
        ),
    ],
)
def test_a_foreign_config_is_told_what_it_lacks(tmp_path, model, message):
    pytest.importorskip("mmdet")
    path = tmp_path / "retina.py"
    path.write_text(FOREIGN + f"model = dict({model})\n")
    cfg = read_config(str(path))
    cfg.work_dir = str(tmp_path)
    with pytest.raises(BuildError, match=message):
        build_runner(cfg)
    neck = ", neck=dict(in_channels=[32, 64, 196, 320])"
    model = f"backbone=dict(_delete_=True, **backbone){neck}"
    path.write_text(FOREIGN + f"model = dict({model})\n")
    cfg = read_config(str(path))
    cfg.work_dir = str(tmp_path)
    build_runner(cfg)


def test_heads_without_a_neck_are_told_their_channels(tmp_path):
    pytest.importorskip("mmseg")
    path = tmp_path / "uper.py"
    path.write_text(
        '_base_ = "mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py"\n'
        'backbone = dict(type="cluenet_mm.CLUENet", arch="tiny", '
        "out_indices=(0, 1, 2, 3))\n"
        "model = dict(pretrained=None, backbone=dict(_delete_=True, **backbone), "
        "decode_head=dict(in_channels=[32, 64, 196, 320]))\n"
    )
    cfg = read_config(str(path))
    cfg.work_dir = str(tmp_path)
    with pytest.raises(BuildError, match=r"model\.auxiliary_head: .*\[1024\].*\[196\]"):
        build_runner(cfg)
    cfg.model.auxiliary_head.in_channels = 196
    build_runner(cfg)


def test_a_best_checkpoint_of_the_flexible_runner_is_refused(tmp_path):
    options = {
        "runner_type": "FlexibleRunner",
        "default_hooks.checkpoint.save_best": "accuracy",
    }
    cfg = read_config(str(toy.write_config(tmp_path)), options)
    with pytest.raises(BuildError, match="save_best=None"):
        build_runner(cfg)


def test_a_head_that_chooses_its_maps_itself_is_built(tmp_path):
    pytest.importorskip("mmseg")
    cfg = read_config("cluenet/native_digits")
    cfg.work_dir = str(tmp_path)
    cfg.model.decode_head.in_channels = [32, 64, 99]
    with pytest.raises(BuildError, match=r"decode_head: .*\[32, 64, 99\].*Set"):
        build_runner(cfg)
    cfg = read_config("cluenet/native_digits")
    cfg.work_dir = str(tmp_path)
    build_runner(cfg)
