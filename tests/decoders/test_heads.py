"""The universal decoder inside mmdet and mmseg: targets, results, every backbone."""

import copy

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from cluenet_mm import config_path
from cluenet_mm.decoders import ClusterHead, ClusterSegHead

DETECTION = ("det_digits", "instance_digits", "panoptic_digits")
# Neither is a multiple of anything; one is padded in a batch of both.
SIZES = ((61, 90), (48, 75))
# Options of a backbone, and what its arch has beside the common keys.
BACKBONES = {
    "CLUENet": ({}, {"head_dims": 32, "pool_norm": True}),
    "ContextCluster": ({"fold_grids": (4, 2, 1)}, {"head_dims": 32}),
    "FEC": ({"cluster_grids": 2}, {"head_dims": 32}),
    "ClusterFormer": ({}, {}),
}


def build(name, backbone="ClusterFormer"):
    torch.manual_seed(0)
    cfg = Config.fromfile(config_path(f"clusterformer/{name}"))
    init_default_scope(cfg.default_scope)
    options, arch = BACKBONES[backbone]
    cfg.model.backbone = {
        "type": f"cluenet_mm.{backbone}",
        "arch": {**cfg.model.backbone.arch, **arch},
        **options,
        "out_indices": cfg.model.backbone.out_indices,
    }
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def detection_sample(size, objects=2, panoptic=False):
    height, width = size
    masks = np.zeros((objects, height, width), np.uint8)
    for i, mask in enumerate(masks):
        mask[5 : height - 10, 10 + 30 * i : 35 + 30 * i] = 1
    boxes = [[10.0 + 30 * i, 5, 35 + 30 * i, height - 10] for i in range(objects)]
    labels = torch.arange(objects) + 1
    sample = DetDataSample(
        metainfo={
            "img_shape": size,
            "ori_shape": (height * 2, width * 2),
            "scale_factor": (0.5, 0.5),
        }
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes).view(-1, 4),
        labels=labels,
        masks=BitmapMasks(masks, height, width),
    )
    if panoptic:
        labels = np.full(size, 10, np.uint8)
        for i, mask in enumerate(masks):
            labels[mask > 0] = i + 1
        labels[:3] = 255
        sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(labels)[None])
    return sample


def batch(name, objects=(2, 1)):
    if name.startswith("semantic"):
        samples = []
        for size, number in zip(SIZES, objects, strict=True):
            labels = torch.full((1, *size), 255)
            for i in range(number):
                labels[:, 5:40, 10 + 30 * i : 35 + 30 * i] = i + 1
            sample = SegDataSample(metainfo={"img_shape": size, "ori_shape": size})
            sample.gt_sem_seg = PixelData(data=labels)
            samples.append(sample)
    else:
        panoptic = name.startswith("panoptic")
        samples = [
            detection_sample(size, number, panoptic)
            for size, number in zip(SIZES, objects, strict=True)
        ]
    images = [torch.randint(0, 256, (3, *size)).byte() for size in SIZES]
    return {"inputs": images, "data_samples": samples}


def losses_of(model, data):
    return model(**model.data_preprocessor(data, training=True), mode="loss")


@pytest.mark.parametrize("objects", [(2, 1), (0, 1), (0, 0)], ids=str)
@pytest.mark.parametrize("name", [*DETECTION, "semantic_digits"])
def test_every_task_trains_also_without_objects(name, objects):
    model = build(name)
    losses = losses_of(model, batch(name, objects))
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters()}
    assert [n for n, grad in grads.items() if grad is None] == []
    assert all(grad.isfinite().all() for grad in grads.values())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_any_backbone_will_do(backbone):
    model = build("instance_digits", backbone)
    data = batch("instance_digits")
    loss, _ = model.parse_losses(losses_of(model, copy.deepcopy(data)))
    loss.backward()
    assert loss.isfinite()
    results = model.eval().val_step(data)
    for result, (height, width) in zip(results, SIZES, strict=True):
        found = result.pred_instances
        assert found.masks.shape == (20, height * 2, width * 2)
        assert found.masks.dtype == torch.bool
        assert (found.bboxes[:, 0::2] <= width * 2).all()
        assert (found.bboxes[:, 1::2] <= height * 2).all()
        assert found.labels.max() < 10
        assert (found.scores[:-1] >= 0).all()


def test_panoptic_results_have_the_size_of_the_image():
    model = build("panoptic_digits").eval()
    for result, (height, width) in zip(
        model.val_step(batch("panoptic_digits")), SIZES, strict=True
    ):
        labels = result.pred_panoptic_seg.sem_seg % 1000
        assert labels.shape == (1, height * 2, width * 2)
        assert labels.max() <= 11


def test_semantic_results_have_the_size_of_the_image():
    model = build("semantic_digits").eval()
    one = {key: value[:1] for key, value in batch("semantic_digits").items()}
    result = model.val_step(one)[0]
    assert result.pred_sem_seg.data.shape == (1, *SIZES[0])
    assert result.seg_logits.data.shape == (11, *SIZES[0])


def test_semantic_windows_of_a_padded_image():
    model = build("semantic_digits").eval()
    model.test_cfg = ConfigDict(mode="slide", crop_size=(48, 48), stride=(32, 32))
    one = {key: value[:1] for key, value in batch("semantic_digits").items()}
    result = model.val_step(one)[0]  # padded to 64 x 96
    assert result.pred_sem_seg.data.shape == (1, *SIZES[0])


def head(**options):
    return ClusterHead(
        "instances",
        in_channels=8,
        num_things=3,
        sample_grid=(1, 2),
        decoder={"embed_dims": 8, "num_layers": 1, "num_heads": 2, "num_maps": 2},
        **options,
    )


META = {
    "img_shape": (20, 30),
    "batch_input_shape": (32, 32),
    "ori_shape": (40, 60),
    "scale_factor": (0.5, 0.5),
}


def test_instances_are_the_best_pairs_of_center_and_class():
    logits = torch.tensor([[0.0, 5, -5, 0], [2.0, -5, 1, 3]])
    boxes = torch.tensor([[2.0, 4, 10, 8], [-5.0, 0, 50, 50]])
    masks = torch.full((2, 40, 60), -20.0)
    masks[0, 8:16, 4:20] = 20.0
    found = head(test_cfg={"max_per_img": 3})._instances(
        logits, boxes, masks, META, rescale=True
    )
    assert found.labels.tolist() == [1, 0, 2]
    expected = [[4.0, 8, 20, 16], [0.0, 0, 60, 40], [0.0, 0, 60, 40]]
    torch.testing.assert_close(found.bboxes, torch.tensor(expected))
    torch.testing.assert_close(found.scores[0], logits[0].softmax(0)[1])
    assert found.masks[0].sum() == 8 * 16
    # A center without a mask is sure of nothing.
    assert found.scores[1:].max() == 0


def test_the_padding_of_a_batch_is_cut_off_masks():
    from cluenet_mm.decoders.detector import _resize

    masks = torch.full((1, 32, 32), -1.0)
    masks[:, :20, :30] = 1.0
    assert (_resize(masks, META, rescale=True) > 0).all()
    assert _resize(masks, META, rescale=True).shape == (1, 40, 60)
    assert _resize(masks, META, rescale=False).shape == (1, 20, 30)


def test_semantic_objects_are_the_classes_that_are_there():
    sample = batch("semantic_digits", (2, 0))["data_samples"]
    head = ClusterSegHead(8, 11, decoder={"embed_dims": 8, "num_heads": 2})
    first, second = (head._objects(s) for s in sample)
    assert first.labels.tolist() == [1, 2]
    assert first.masks.sum((1, 2)).tolist() == [35 * 25, 35 * 25]
    assert len(second) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains(dtype):
    model = build("instance_digits")
    with torch.autocast("cpu", dtype=dtype):
        losses = losses_of(model, batch("instance_digits"))
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"task": "keypoints"}, "task must be one of"),
        ({"task": "boxes", "num_stuff": 3}, "has no stuff"),
        ({"task": "boxes", "test_cfg": {"max_per_image": 3}}, "test_cfg has no"),
    ],
)
def test_impossible_tasks_are_errors(options, reason):
    with pytest.raises(ValueError, match=reason):
        ClusterHead(in_channels=8, num_things=3, **options)
