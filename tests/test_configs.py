"""Every config builds, runs once, and says what it claims."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from PIL import Image

from cluenet_mm.config import read_config

CONFIGS = Path(__file__).parents[1] / "configs"
CLASSIFIERS = sorted([*CONFIGS.glob("*/cls_*.py"), *CONFIGS.glob("baselines/*.py")])
by_name = pytest.mark.parametrize(
    "path", CLASSIFIERS, ids=lambda p: f"{p.parent.name}/{p.stem}"
)


def read(path):
    """A config, with ten classes where they are counted in a folder of the user."""
    named = Config.fromfile(path).get("num_classes") == "auto"
    return read_config(str(path), {"num_classes": 10} if named else {})


def build(cfg):
    init_default_scope(cfg.default_scope)
    return MODELS.build({**cfg.model, "data_preprocessor": cfg.data_preprocessor})


@by_name
def test_a_classifier_trains_one_step(path):
    cfg = read(path)
    if "drop_path_rate" in cfg.model.backbone:
        cfg.model.backbone.drop_path_rate = 0.0  # it would skip blocks of this one step
    model = build(cfg)
    side = 32 if {"cifar100", "digits"} & set(path.stem.split("_")) else 96
    batch = {
        "inputs": [torch.randint(0, 256, (3, side, side)).byte() for _ in range(2)],
        "data_samples": [DataSample().set_gt_label(i) for i in (1, 7)],
    }
    if cfg.data_preprocessor.type == "cluenet_mm.TensorDataPreprocessor":
        batch = {"inputs": torch.stack(batch["inputs"]), "labels": torch.tensor([1, 7])}
    if cfg.optim_wrapper.type.endswith("AmpOptimWrapper"):
        cfg.optim_wrapper.dtype = "bfloat16"  # what a CPU has
        cfg.optim_wrapper.loss_scale = 1.0
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    log = model.train_step(batch, wrapper)
    assert math.isfinite(log["loss"])
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    unmoved = [n for n, p in trained.items() if torch.equal(p, before[n])]
    assert unmoved == []
    predictions = model.val_step(batch)
    assert predictions[0].pred_score.shape == (cfg.model.head.num_classes,)


@by_name
def test_configs_are_short_and_explain_their_learning_rate(path):
    text = path.read_text()
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 90
    if "lr=" in text.replace(" ", ""):
        assert "->" in text


@pytest.mark.parametrize(
    "family", ["CLUENet", "ContextCluster", "FEC", "ClusterFormer"]
)
def test_norms_of_every_family_are_known_to_mmengine(family):
    model = MODELS.build({"type": f"cluenet_mm.{family}"})
    options = {"type": "AdamW", "lr": 1.0, "weight_decay": 0.1}
    wrapper = build_optim_wrapper(
        model,
        {
            "type": "OptimWrapper",
            "optimizer": options,
            "paramwise_cfg": {"norm_decay_mult": 0.0},
        },
    )
    free = {
        id(p)
        for g in wrapper.param_groups
        if not g["weight_decay"]
        for p in g["params"]
    }
    norms = {n for n, p in model.named_parameters() if id(p) in free}
    assert norms == {n for n in dict(model.named_parameters()) if "norm" in n}


@pytest.mark.parametrize("scope", ["mmpretrain", "mmdet", "mmseg"])
def test_the_backbone_builds_in_every_library_s_scope(scope, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = __import__(f"{scope}.registry", fromlist=["MODELS"]).MODELS
    model = registry.build({"type": "cluenet_mm.CLUENet", "arch": "micro"})
    assert model(torch.randn(1, 3, 32, 32))[0].shape == (1, 256, 1, 1)


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_base_of_mmseg_takes_the_backbone(pretrained, tmp_path):
    """docs/detectors.md: its ``pretrained`` would go to the backbone as an option."""
    path = tmp_path / "config.py"
    path.write_text(
        '_base_ = "mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py"\n'
        'backbone = dict(type="cluenet_mm.CLUENet", arch="tiny", '
        "out_indices=(0, 1, 2, 3))\n"
        "model = dict(backbone=dict(_delete_=True, **backbone), "
        "neck=dict(in_channels=[32, 64, 196, 320]))\n"
        + ("" if pretrained else "model.update(pretrained=None)\n")
    )
    cfg = Config.fromfile(path)
    init_default_scope("mmseg")
    if pretrained:
        with pytest.raises(TypeError, match="pretrained"):
            MODELS.build(cfg.model)
    else:
        maps = MODELS.build(cfg.model).eval().extract_feat(torch.zeros(1, 3, 64, 64))
        assert [m.shape[-1] for m in maps] == [16, 8, 4, 2]


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("cluenet/cls_cifar100_folder", 32),
        ("cluenet/cls_mini_imagenet_tiny", 224),
        ("cluenet/cls_imagenet_tiny", 224),
        ("fec/cls_imagenet_small", 224),
    ],
)
def test_pipelines_run_on_files(name, side, tmp_path):
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    init_default_scope(cfg.default_scope)
    size = (32, 32) if side == 32 else (90, 70)
    Image.effect_noise(size, 80).save(tmp_path / "grey.png")
    for loader, repeats in ((cfg.train_dataloader, 60), (cfg.val_dataloader, 1)):
        pipeline = Compose(loader.dataset.pipeline)
        for _ in range(repeats):  # random transforms: most of their branches
            sample = pipeline({"img_path": str(tmp_path / "grey.png"), "gt_label": 3})
            assert sample["inputs"].shape == (3, side, side)
            assert sample["inputs"].dtype == torch.uint8


def test_mini_imagenet_is_erased_in_black():
    cfg = Config.fromfile(CONFIGS / "cluenet/cls_mini_imagenet_tiny.py")
    init_default_scope(cfg.default_scope)
    (erase,) = (t for t in cfg.train_pipeline if t.type == "RandomErasing")
    erase.erase_prob = 1.0
    image = np.full((224, 224, 3), 200, np.uint8)
    erased = Compose([erase])({"img": image})["img"]
    assert set(np.unique(erased)) == {0, 200}
    assert 0.01 < (erased == 0).mean() < 0.21


@pytest.mark.parametrize("name", ["coc/cls_imagenet_medium", "fec/cls_imagenet_base"])
def test_imagenet_as_coc_and_fec_were_released(name):
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    assert cfg.optim_wrapper.clip_grad is None
    devices = 4 if name.startswith("fec") else 8
    batch = cfg.train_dataloader.batch_size * devices
    assert batch == cfg.auto_scale_lr.base_batch_size == 1024
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-3)
    resize, crop = cfg.val_dataloader.dataset.pipeline[1:3]
    assert (resize.scale, resize.interpolation, crop.crop_size) == (248, "bicubic", 224)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == 248
    random = cfg.train_dataloader.dataset.pipeline[1]
    modes = [choice[0].interpolation for choice in random.transforms]
    assert modes == ["bilinear", "bicubic"]
    assert len(cfg.model.train_cfg.augments) == 2


def test_the_plain_context_cluster_has_the_release_s_centers():
    plain = Config.fromfile(CONFIGS / "coc/cls_imagenet_tiny_plain.py").model.backbone
    assert (plain.arch, plain.cluster_grids, plain.fold_grids) == (
        "tiny",
        (4, 4, 2, 2),
        1,
    )
