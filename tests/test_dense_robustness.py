"""Awkward images and annotations, through the real pipelines into the real models."""

from pathlib import Path

import cv2
import dense_data
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from cluenet_mm import config_names

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

DETECTORS = [name for name in config_names() if name.endswith("/mask_rcnn_digits.py")]
SEGMENTORS = [
    name for name in config_names() if name.endswith("/semantic_fpn_digits.py")
]
# Height and width, down to images that are smaller than a stride.
SIZES = [(1, 1), (5, 90), (90, 5), (31, 33), (64, 64), (47, 200)]


def build(path: Path) -> tuple[Config, nn.Module]:
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    return cfg, MODELS.build(cfg.model)


def check_step(model: nn.Module, samples: list[dict]) -> dict[str, torch.Tensor]:
    """One forward and backward pass; losses and all gradients are finite."""
    model.train()
    batch = model.data_preprocessor(pseudo_collate(samples), training=True)
    losses = model(**batch, mode="loss")
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    model.zero_grad()
    return losses


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_trains_on_awkward_annotations(name, tmp_path):
    cfg, model = build(dense_data.detector_config(dense_data.write(tmp_path), name))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    samples = {Path(s["data_samples"].img_path).name: s for s in dataset}
    assert len(samples) == len(dense_data.IMAGES)  # the empty image among them
    boxes = {
        name: len(sample["data_samples"].gt_instances)
        for name, sample in samples.items()
    }
    assert boxes == {name: len(objects) for name, *_, objects in dense_data.IMAGES}
    crowd = samples[dense_data.CROWDED]["data_samples"].ignored_instances
    assert len(crowd) == 1
    assert crowd.masks.masks.sum() == 5 * 70
    assert samples[dense_data.CROWDED]["inputs"].shape[0] == 3  # grayscale

    losses = check_step(model, list(samples.values()))
    assert {"loss_rpn_cls", "loss_bbox", "loss_mask"} <= losses.keys()
    losses = check_step(model, [samples["empty.png"]])
    assert losses["loss_mask"] == 0
    check_step(model, [samples["dot.png"], samples["empty.png"]])


@pytest.mark.parametrize("name", SEGMENTORS)
def test_a_segmentor_trains_on_awkward_images(name, tmp_path):
    cfg, model = build(dense_data.segmentor_config(dense_data.write(tmp_path), name))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    samples = list(dataset)
    # Crops of 64 pixels, smaller where the image is: padded in the batch.
    assert len({sample["inputs"].shape for sample in samples}) > 1
    losses = check_step(model, samples)
    assert losses["decode.loss_ce"] > 0
    for sample in samples:
        labels = sample["data_samples"].gt_sem_seg.data
        assert set(labels.unique().tolist()) <= {0, 1, 2, dense_data.IGNORED}
        sample["data_samples"].gt_sem_seg.data = torch.full_like(labels, 255)
    check_step(model, samples)  # nothing is labeled


def write_images(folder: Path) -> list[Path]:
    rng = np.random.default_rng(1)
    paths = []
    for height, width in SIZES:
        paths.append(folder / f"{height}x{width}.png")
        image = rng.integers(0, 255, (height, width, 3), np.uint8)
        assert cv2.imwrite(str(paths[-1]), image)
    return paths


def load(cfg: Config, paths: list[Path]) -> list[dict]:
    """Samples without labels from the test pipeline of a config."""
    steps = [
        step
        for step in cfg.test_dataloader.dataset.pipeline
        if step.type != "LoadAnnotations"
    ]
    pipeline = Compose(steps)
    return [
        pipeline({"img_path": str(path), "img_id": i}) for i, path in enumerate(paths)
    ]


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_takes_any_size(name, tmp_path):
    cfg, model = build(dense_data.detector_config(dense_data.write(tmp_path), name))
    samples = load(cfg, write_images(tmp_path))
    model.test_cfg.rcnn.score_thr = 0.0  # so that there is something to look at
    model.eval()
    with torch.no_grad():
        together = model.test_step(pseudo_collate(samples))
        alone = model.test_step(pseudo_collate(samples[-1:]))[0]
    for sample, (height, width) in zip(together, SIZES, strict=True):
        found = sample.pred_instances
        assert found.masks.shape == (len(found), height, width)
        assert torch.isfinite(found.bboxes).all()
        assert (found.bboxes >= 0).all()
        assert (found.bboxes <= torch.tensor([width, height] * 2)).all()
    assert len(alone.pred_instances) > 0


@pytest.mark.parametrize("name", SEGMENTORS)
def test_a_segmentor_takes_any_size(name, tmp_path):
    cfg, model = build(dense_data.segmentor_config(dense_data.write(tmp_path), name))
    samples = load(cfg, write_images(tmp_path))
    model.eval()
    with torch.no_grad():
        # mmseg pads batches of one size only while testing.
        results = [model.test_step(pseudo_collate([sample]))[0] for sample in samples]
    for result, (height, width) in zip(results, SIZES, strict=True):
        assert result.pred_sem_seg.data.shape == (1, height, width)
        assert torch.isfinite(result.seg_logits.data).all()


def views_of(image: np.ndarray, scope: str) -> dict:
    """The batch of one image that a test-time flip makes."""
    pack = {"type": {"mmdet": "PackDetInputs", "mmseg": "PackSegInputs"}[scope]}
    load = {"mmdet": "mmdet.LoadImageFromNDArray", "mmseg": "LoadImageFromNDArray"}
    meta = ("ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
    pack["meta_keys"] = (*meta, "img_path")
    flips = [{"type": "RandomFlip", "prob": prob} for prob in (0.0, 1.0)]
    resize = [{"type": "Resize", "scale_factor": 1.0}]
    augment = {"type": "TestTimeAug", "transforms": [resize, flips, [pack]]}
    pipeline = Compose([{"type": load[scope]}, augment])
    return pseudo_collate([pipeline({"img": image, "img_path": "x"})])


def test_flipped_views_agree(tmp_path):
    """The image and its mirror image have mirrored results with test-time flips."""
    rng = np.random.default_rng(2)
    image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (128, 96))
    mirrored = image[:, ::-1].copy()

    _, segmentor = build(dense_data.segmentor_config(dense_data.write(tmp_path)))
    nn.init.normal_(segmentor.decode_head.conv_seg.weight)  # several classes win
    model = MODELS.build({"type": "SegTTAModel", "module": segmentor}).eval()
    with torch.no_grad():
        one, other = (
            model.test_step(views_of(i, "mmseg"))[0].pred_sem_seg.data
            for i in (image, mirrored)
        )
    assert one.unique().numel() > 1
    assert (one == other.flip(-1)).float().mean() > 0.999

    _, detector = build(dense_data.detector_config(tmp_path))
    detector.test_cfg.rcnn.score_thr = 0.0
    kind = {"type": "cluenet_mm.InstanceTTAModel", "max_per_img": 10}
    model = MODELS.build({**kind, "module": detector}).eval()
    with torch.no_grad():
        one, other = (
            model.test_step(views_of(i, "mmdet"))[0].pred_instances
            for i in (image, mirrored)
        )
    assert len(one) == 10
    torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=1e-3)
    x1, y1, x2, y2 = other.bboxes.unbind(1)
    restored = torch.stack((128 - x2, y1, 128 - x1, y2), 1)
    torch.testing.assert_close(one.bboxes, restored, atol=0.01, rtol=1e-3)
    assert (one.masks == other.masks.flip(-1)).float().mean() > 0.999


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_instances_of_a_flipped_view_come_back(direction):
    from mmdet.structures import DetDataSample

    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[0, 1:3, 2:7] = True
    box = torch.tensor([[2.0, 1.0, 7.0, 3.0]])
    axes = {"horizontal": [2], "vertical": [1], "diagonal": [1, 2]}[direction]
    flipped_box = {
        "horizontal": [[1.0, 1.0, 6.0, 3.0]],
        "vertical": [[2.0, 3.0, 7.0, 5.0]],
        "diagonal": [[1.0, 3.0, 6.0, 5.0]],
    }[direction]
    views = []
    for flip, score in ((False, 0.4), (True, 0.6)):
        meta = {"ori_shape": (6, 8), "flip": flip, "flip_direction": direction}
        sample = DetDataSample(metainfo=meta)
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(flipped_box) if flip else box,
            scores=torch.tensor([score]),
            labels=torch.tensor([3]),
            masks=mask.flip(axes) if flip else mask,
        )
        views.append(sample)
    model = MODELS.build(
        {"type": "cluenet_mm.InstanceTTAModel", "module": StubDetector()}
    )
    (merged,) = model.merge_preds([views])
    found = merged.pred_instances
    assert found.scores.tolist() == pytest.approx([0.6])  # one object, not two
    torch.testing.assert_close(found.bboxes, box)
    assert (found.masks == mask).all()


class StubDetector(nn.Module):
    """Stands where merging alone is looked at."""

    def test_step(self, data):
        raise NotImplementedError
