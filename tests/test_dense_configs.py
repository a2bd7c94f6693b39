"""Every config for detection and segmentation builds, runs, and says what it claims."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmseg.apis import inference_model, init_model
from mmseg.structures import SegDataSample
from PIL import Image

from cluenet_mm.checkpoint import CheckpointError

CONFIGS = Path(__file__).parents[1] / "configs"
DETECTORS = sorted(CONFIGS.glob("*/mask_rcnn_*.py"))
SEGMENTERS = sorted(CONFIGS.glob("*/semantic_fpn_*.py"))
NATIVE = sorted(CONFIGS.glob("*/native_*.py"))
# Those with ClusterFormer's universal decoder.
DECODERS = sorted(
    path
    for task in ("det", "instance", "panoptic", "semantic")
    for path in CONFIGS.glob(f"*/{task}_*.py")
    if path not in SEGMENTERS
)
# Height and width of the test images: neither is a multiple of anything.
SIZES = ((67, 101), (53, 90))


def name(path):
    return f"{path.parent.name}/{path.stem}"


by_name = pytest.mark.parametrize(
    "path", DETECTORS + SEGMENTERS + NATIVE + DECODERS, ids=name
)


def build(cfg):
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


def shrink(cfg):
    """The same wiring with few proposals: a step in a second."""
    cfg.model.backbone.drop_path_rate = 0.0  # it would skip blocks of this one step
    if "cluenet_mm.Cluster" in str(cfg.model):
        head = cfg.model.get("bbox_head") or cfg.model.decode_head
        head.criterion = {"num_points": 512}
    elif cfg.default_scope == "mmdet":
        cfg.model.train_cfg.rpn_proposal.max_per_img = 40
        cfg.model.train_cfg.rcnn.sampler.num = 32
        cfg.model.test_cfg.rpn.max_per_img = 40
    return cfg


def detection_batch():
    samples = []
    for height, width in SIZES:
        masks = np.zeros((2, height, width), np.uint8)
        masks[0, 5:45, 10:40] = 1
        masks[1, 8:50, 50:85] = 1
        boxes = torch.tensor([[10.0, 5, 40, 45], [50, 8, 85, 50]])
        sample = DetDataSample(
            metainfo={
                "img_shape": (height, width),
                "ori_shape": (height, width),
                "scale_factor": (1.0, 1.0),
            }
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes,
            labels=torch.tensor([1, 7]),
            masks=BitmapMasks(masks, height, width),
        )
        labels = torch.full((1, height, width), 10)  # stuff, of 10 things or of 80
        sample.gt_sem_seg = PixelData(sem_seg=labels)
        samples.append(sample)
    return samples


def segmentation_batch():
    samples = []
    for height, width in SIZES:
        sample = SegDataSample(
            metainfo={"img_shape": (height, width), "ori_shape": (height, width)}
        )
        labels = torch.randint(0, 2, (1, height, width))  # classes of every dataset
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return samples


def small_batch(cfg):
    torch.manual_seed(0)
    detects = cfg.default_scope == "mmdet"
    if not detects:
        # The preprocessor pads to the crop size of training.
        cfg.model.data_preprocessor.size = (96, 128)
    return {
        "inputs": [torch.randint(0, 256, (3, *size)).byte() for size in SIZES],
        "data_samples": detection_batch() if detects else segmentation_batch(),
    }


@by_name
def test_a_dense_model_trains_one_step_and_predicts(path):
    cfg = shrink(Config.fromfile(path))
    batch = small_batch(cfg)
    model = build(cfg)
    losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    # Distributed training would wait for a gradient that is missing.
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None] == []
    one = {key: value[:1] for key, value in small_batch(cfg).items()}
    prediction = model.eval().val_step(one)[0]
    if "pred_panoptic_seg" in prediction:
        assert prediction.pred_panoptic_seg.sem_seg.shape[1:] == SIZES[0]
    elif cfg.default_scope == "mmdet":
        found = prediction.pred_instances
        assert found.bboxes.shape[1] == 4
        if cfg.model.get("bbox_head", {}).get("task") != "boxes":
            assert found.masks.shape[1:] == SIZES[0]
    else:
        assert prediction.pred_sem_seg.data.shape[1:] == SIZES[0]
        classes = cfg.model.decode_head.num_classes
        assert prediction.seg_logits.data.shape[0] == classes


@by_name
def test_dense_configs_are_short_and_leave_distributed_training_alone(path):
    text = path.read_text()
    assert text.startswith("# ")
    first = "_base_ = [" in text
    assert len(text.splitlines()) <= (90 if first else 25)
    cfg = Config.fromfile(path)
    assert "find_unused_parameters" not in cfg
    assert cfg.optim_wrapper.type in (
        "cluenet_mm.GuardedOptimWrapper",
        "cluenet_mm.GuardedAmpOptimWrapper",
    )
    assert cfg.auto_scale_lr.base_batch_size > 0
    assert ("init_cfg" in cfg.model.backbone) == ("_pretrained" in path.stem)
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert "cluenet_mm.EpochSeedHook" in hooks


@pytest.mark.parametrize("path", SEGMENTERS, ids=name)
def test_batch_norms_are_synchronized_where_runs_are_distributed(path):
    # MMEngine makes them ordinary in runs of one process, setup_launcher on CPUs.
    cfg = Config.fromfile(path)
    assert cfg.model.decode_head.norm_cfg.type == "SyncBN"


@pytest.mark.parametrize(
    ("config", "devices", "lr"),
    [
        ("cluenet/mask_rcnn_coco_tiny", 8, 2e-4),
        ("cluenet/mask_rcnn_coco_small_ms3x", 8, 2e-4),
        ("coc/mask_rcnn_coco_medium_49", 8, 2e-4),
        ("fec/mask_rcnn_coco_base", 4, 2e-4),
        ("cluenet/semantic_fpn_ade20k_tiny", 4, 1e-4),
        ("coc/semantic_fpn_ade20k_medium_4", 4, 1e-4),
        ("fec/semantic_fpn_ade20k_large", 4, 1e-4),
    ],
)
def test_dense_models_train_as_the_papers_did(config, devices, lr):
    cfg = Config.fromfile(CONFIGS / f"{config}.py")
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", lr, 1e-4)
    assert not cfg.optim_wrapper.get("clip_grad")
    batch = cfg.train_dataloader.batch_size * devices
    assert batch == cfg.auto_scale_lr.base_batch_size == 16
    if not config.startswith("cluenet"):  # whose dense recipes are ours
        assert cfg.model.backbone.get("drop_path_rate", 0.0) == 0.0


@pytest.mark.parametrize(
    "path", [p for p in DECODERS if "coco" in p.stem or "ade20k" in p.stem], ids=name
)
def test_the_decoder_trains_as_mask2former_does(path):
    cfg = Config.fromfile(path)
    assert cfg.optim_wrapper.clip_grad.max_norm == 0.01
    assert cfg.auto_scale_lr.base_batch_size == 16
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): n for n, p in model.named_parameters()}
    *groups, base = wrapper.param_groups  # the last is MMEngine's, for its log
    assert len(groups) == len(names)
    assert base["lr"] == 1e-4
    for group in groups:
        (parameter,) = group["params"]
        key = names[id(parameter)]
        pretrained = key.startswith("backbone.")
        assert group["lr"] == pytest.approx(1e-5 if pretrained else 1e-4), key
        free = parameter.ndim == 0 or "sim_" in key or "learned" in key
        if free or key.endswith("levels"):
            assert group["weight_decay"] == 0, key
        elif parameter.ndim > 1:
            assert group["weight_decay"] == 0.05, key


@pytest.mark.parametrize("config", ["instance_coco_tiny", "panoptic_coco_tiny"])
def test_large_scale_jitter_keeps_labels_on_their_pixels(config, tmp_path):
    cfg = Config.fromfile(CONFIGS / "clusterformer" / f"{config}.py")
    init_default_scope(cfg.default_scope)
    # A red square, its mask and, in panoptic data, its map.
    image = np.zeros((120, 90, 3), np.uint8)
    image[30:80, 20:60] = (255, 0, 0)
    Image.fromarray(image).save(tmp_path / "image.png")
    ids = np.zeros((120, 90, 3), np.uint8)
    ids[..., 0] = np.where(image[..., 0], 1, 2)
    Image.fromarray(ids).save(tmp_path / "ids.png")
    thing = {"bbox": [20, 30, 60, 80], "bbox_label": 5, "ignore_flag": 0}
    thing["mask"] = [[20, 30, 60, 30, 60, 80, 20, 80]]
    pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
    sides = []
    np.random.seed(0)
    for _ in range(20):
        sample = pipeline(
            {
                "img_path": str(tmp_path / "image.png"),
                "seg_map_path": str(tmp_path / "ids.png"),
                "ori_shape": (120, 90),
                "height": 120,
                "width": 90,
                "img_id": 1,
                "instances": [dict(thing)],
                "segments_info": [
                    {"id": 1, "category": 5, "is_thing": True},
                    {"id": 2, "category": 90, "is_thing": False},
                ],
            }
        )
        if sample is None:  # the crop had no thing: another image is drawn
            continue
        sides.append(max(sample["inputs"].shape[1:]))
        red = sample["inputs"].float()[2] > 127
        labels = sample["data_samples"]
        masks = torch.from_numpy(labels.gt_instances.masks.masks).bool()
        assert len(masks) <= 1
        if len(masks):
            union = (masks[0] | red).sum()
            assert (masks[0] & red).sum() > 0.9 * union
        if "panoptic" in config:
            things = labels.gt_sem_seg.sem_seg[0] == 5
            assert (things & red).sum() > 0.9 * (things | red).sum()
    assert len(sides) > 10
    assert max(sides) == 1024
    assert min(sides) < 512


@pytest.mark.parametrize(
    ("config", "size", "expected"),
    [
        ("semantic_fpn_ade20k_tiny", (300, 200), (512, 768)),
        ("semantic_fpn_ade20k_tiny", (201, 333), (864, 512)),
        ("semantic_fpn_camvid", (480, 360), (384, 480)),
    ],
)
def test_test_images_are_aligned_and_labels_are_not(config, size, expected, tmp_path):
    cfg = Config.fromfile(CONFIGS / "cluenet" / f"{config}.py")
    init_default_scope(cfg.default_scope)
    Image.effect_noise(size, 80).save(tmp_path / "image.png")
    Image.new("L", size, 3).save(tmp_path / "labels.png")
    sample = Compose(cfg.val_dataloader.dataset.pipeline)(
        {
            "img_path": str(tmp_path / "image.png"),
            "seg_map_path": str(tmp_path / "labels.png"),
            "seg_fields": [],
            "label_map": None,
            "reduce_zero_label": "ade20k" in config,
        }
    )
    assert sample["inputs"].shape[1:] == expected
    assert sample["data_samples"].ori_shape == size[::-1]
    assert sample["data_samples"].gt_sem_seg.shape == size[::-1]


def test_mmseg_finds_the_pipeline_of_a_test():
    """Its ``inference_model`` looks for ``test_pipeline`` at the top of a config."""
    for path in (p for p in SEGMENTERS + DECODERS if p.stem.startswith("semantic")):
        cfg = Config.fromfile(path)
        assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline, path
    model = init_model(str(CONFIGS / "fec/semantic_fpn_digits.py"), device="cpu")
    found = inference_model(model, np.zeros((64, 96, 3), np.uint8))
    assert found.pred_sem_seg.shape == (64, 96)


def test_unlabeled_pixels_of_camvid_take_no_part():
    cfg = Config.fromfile(CONFIGS / "cluenet/semantic_fpn_camvid.py")
    init_default_scope(cfg.default_scope)
    model = build(shrink(cfg))
    batch = small_batch(cfg)
    data = model.data_preprocessor(batch, training=True)
    # Padding gets the label of the unlabeled pixels.
    assert (data["data_samples"][0].gt_sem_seg.data[0, :, -1] == 11).all()
    for sample in data["data_samples"]:
        sample.gt_sem_seg.data[:] = 11
    losses = model.loss(**data)
    assert losses["decode.loss_ce"] == 0


@pytest.mark.parametrize(
    "config", ["mask_rcnn_coco_tiny", "semantic_fpn_ade20k_tiny", "mask_rcnn_digits"]
)
def test_train_pipelines_run_on_awkward_files(config, tmp_path):
    cfg = Config.fromfile(CONFIGS / "cluenet" / f"{config}.py")
    init_default_scope(cfg.default_scope)
    Image.effect_noise((90, 70), 80).save(tmp_path / "grey.jpg")
    Image.new("L", (90, 70), 3).save(tmp_path / "labels.png")
    pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
    square = [[10.0, 10.0, 40.0, 10.0, 40.0, 40.0, 10.0, 40.0]]
    for _ in range(5):
        sample = pipeline(
            {
                "img_path": str(tmp_path / "grey.jpg"),
                "seg_map_path": str(tmp_path / "labels.png"),
                "seg_fields": [],
                "label_map": None,
                "reduce_zero_label": True,
                "height": 70,
                "width": 90,
                "instances": [
                    {
                        "bbox": [10, 10, 40, 40],
                        "bbox_label": 2,
                        "mask": square,
                        "ignore_flag": 0,
                    }
                ],
            }
        )
        assert sample["inputs"].dtype == torch.uint8
        if cfg.default_scope == "mmdet":
            assert len(sample["data_samples"].gt_instances) == 1
        else:
            assert max(sample["inputs"].shape) <= 512
            assert sample["data_samples"].gt_sem_seg.data.unique().tolist() == [2]


@pytest.mark.parametrize(
    ("dense", "classifier", "other"),
    [
        ("cluenet/mask_rcnn_coco_tiny", "cls_imagenet_tiny", "cls_imagenet_small"),
        ("fec/semantic_fpn_ade20k_small", "cls_imagenet_small", "cls_imagenet_base"),
        ("coc/mask_rcnn_coco_small_49", "cls_imagenet_small", "cls_imagenet_medium"),
    ],
)
def test_a_classifier_is_one_line_away(dense, classifier, other, tmp_path):
    """Grids and folds differ between the two and are no weights."""
    family = dense.split("/")[0]
    for name in (classifier, other):
        cfg = Config.fromfile(CONFIGS / family / f"{name}.py")
        init_default_scope(cfg.default_scope)
        weights = MODELS.build(cfg.model).state_dict()
        torch.save({"state_dict": weights}, tmp_path / f"{name}.pth")
    cfg = Config.fromfile(CONFIGS / f"{dense}.py")
    init_default_scope(cfg.default_scope)

    def backbone(name):
        line = {
            "type": "Pretrained",
            "checkpoint": str(tmp_path / f"{name}.pth"),
            "prefix": "backbone.",
        }
        model = MODELS.build({**cfg.model.backbone, "init_cfg": line})
        model.init_weights()
        return model.state_dict()

    loaded = backbone(classifier)
    saved = torch.load(tmp_path / f"{classifier}.pth")["state_dict"]
    shared = [n for n in loaded if f"backbone.{n}" in saved]
    missing = {n.split(".")[0] for n in loaded if n not in shared}
    assert missing == {"norm0", "norm1", "norm2"}
    assert all(torch.equal(loaded[n], saved[f"backbone.{n}"]) for n in shared)
    with pytest.raises(CheckpointError, match=other):
        backbone(other)
