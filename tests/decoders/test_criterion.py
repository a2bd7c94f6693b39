"""Matching and losses of the universal decoder."""

import itertools

import pytest
import torch
from mmengine.structures import InstanceData

pytest.importorskip("mmdet")

from cluenet_mm.decoders import ClusterCriterion, Prediction

SHAPE = (32, 48)


def criterion(**options):
    settings = {
        "num_classes": 4,
        "num_sampled": 6,
        "num_learned": 1,
        "with_box": True,
        "with_mask": True,
        "num_points": 256,
        **options,
    }
    return ClusterCriterion(**settings)


def truth(labels, boxes):
    masks = torch.zeros(len(labels), *SHAPE)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    data = InstanceData(
        labels=torch.tensor(labels, dtype=torch.int64),
        bboxes=torch.tensor(boxes).float().view(-1, 4),
        masks=masks,
    )
    data.set_metainfo({"img_shape": SHAPE})
    return data


# Two things, and stuff that fills the right half.
SCENE = ([0, 2, 3], [[4, 4, 16, 12], [8, 16, 20, 28], [24, 0, 48, 32]])


def noise(batch=1):
    torch.manual_seed(0)
    return Prediction(
        torch.randn(batch, 7, 5).requires_grad_(),
        torch.rand(batch, 7, 4).requires_grad_(),
        torch.randn(batch, 7, 8, 12).requires_grad_(),
    )


def perfect(centers):
    """The scene, said by these centers; all others say "no object"."""
    found, (labels, boxes) = noise(), SCENE
    logits = torch.full((1, 7, 5), -8.0)
    logits[..., 4] = 8.0
    fractions, masks = found.boxes.detach().clone(), torch.full((1, 7, *SHAPE), -9.0)
    for center, label, box in zip(centers, labels, boxes, strict=True):
        logits[0, center] = -8.0
        logits[0, center, label] = 8.0
        left, top, right, bottom = box
        fractions[0, center] = torch.tensor(
            [
                (left + right) / 2 / SHAPE[1],
                (top + bottom) / 2 / SHAPE[0],
                (right - left) / SHAPE[1],
                (bottom - top) / SHAPE[0],
            ]
        )
        masks[0, center, top:bottom, left:right] = 9.0
    return Prediction(logits, fractions, masks)


def test_a_perfect_prediction_is_matched_and_costs_nothing():
    losses = criterion()([perfect([3, 1, 6])], [truth(*SCENE)])
    assert set(losses) == {f"loss_{x}" for x in ("cls", "box", "iou", "mask", "dice")}
    for name in ("loss_cls", "loss_box", "loss_iou"):
        assert losses[name] < 1e-4, name
    # Points between two cells are undecided.
    assert losses["loss_mask"] < 2
    assert losses["loss_mask"] < criterion()([noise()], [truth(*SCENE)])["loss_mask"]
    (centers, objects), *_ = criterion().match(perfect([3, 1, 6]), [truth(*SCENE)])
    pairs = dict(zip(objects.tolist(), centers.tolist(), strict=True))
    assert pairs == {0: 3, 1: 1, 2: 6}


def test_sampled_centers_are_for_things_and_a_learned_one_is_its_class():
    # A sampled center says the stuff, and the learned one a thing: no match.
    (centers, objects), *_ = criterion().match(perfect([6, 2, 0]), [truth(*SCENE)])
    pairs = dict(zip(objects.tolist(), centers.tolist(), strict=True))
    assert pairs[2] == 6
    assert pairs[1] == 2
    assert pairs[0] < 6


def test_learned_centers_alone_are_the_classes_in_order():
    alone = criterion(num_sampled=0, num_learned=4, with_box=False)
    (centers, objects), *_ = alone.match(noise(), [truth(*SCENE)])
    assert [SCENE[0][i] for i in objects] == centers.tolist() == [0, 2, 3]


@pytest.mark.parametrize("scenes", [[([], [])], [([], []), SCENE]])
def test_images_without_objects_train(scenes):
    found = noise(len(scenes))
    losses = criterion()([found, found], [truth(*scene) for scene in scenes])
    assert set(losses) == {
        f"{prefix}loss_{x}"
        for prefix in ("", "d0.")
        for x in ("cls", "box", "iou", "mask", "dice")
    }
    sum(losses.values()).backward()
    for x in found:
        assert x.grad.isfinite().all()
    if scenes == [([], [])]:
        assert losses["loss_box"] == 0
        assert losses["loss_cls"] > 0


def test_more_objects_than_centers():
    many = ([0] * 9, [[i, i, i + 8, i + 8] for i in range(9)])
    (centers, objects), *_ = criterion().match(noise(), [truth(*many)])
    assert sorted(centers.tolist()) == list(range(6))
    assert len(set(objects.tolist())) == 6


def test_weights_of_losses_and_costs_are_options():
    scene = [truth(*SCENE)]
    torch.manual_seed(3)
    once = criterion()([noise()], scene)
    torch.manual_seed(3)
    twice = criterion(losses={"box": {"loss_weight": 10.0}})([noise()], scene)
    torch.testing.assert_close(twice["loss_box"], 2 * once["loss_box"])
    torch.testing.assert_close(twice["loss_iou"], once["loss_iou"])
    costs = {name: {"weight": 0.0} for name in ("cls", "iou", "mask", "dice")}
    (centers, objects), *_ = criterion(costs=costs).match(noise(), scene)
    boxes, size = noise().boxes[0, :6], torch.tensor([48.0, 32, 48, 32])
    left, top, right, bottom = scene[0].bboxes[:2].T
    middle = (left + right) / 2, (top + bottom) / 2
    targets = torch.stack([*middle, right - left, bottom - top], dim=1) / size
    distances = torch.cdist(boxes, targets, p=1)
    best = min(
        itertools.permutations(range(6), 2), key=lambda p: distances[p, [0, 1]].sum()
    )
    pairs = dict(zip(objects.tolist(), centers.tolist(), strict=True))
    assert (pairs[0], pairs[1]) == best


def test_an_unknown_term_is_an_error():
    with pytest.raises(ValueError, match=r"costs has no \['giou'\]"):
        criterion(costs={"giou": {"weight": 1.0}})


def test_predictions_that_are_not_finite_are_left_to_the_guard():
    found = noise()
    with torch.no_grad():
        found.logits[0, 2] = torch.nan
        found.masks[0, 1] = torch.inf
    losses = criterion()([found], [truth(*SCENE)])
    assert losses["loss_cls"].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_matching_does_not_overflow_in_autocast(dtype):
    # Every center misses a large object: the sum over the points exceeds fp16.
    found = noise()._replace(masks=torch.full((1, 7, 8, 12), -14.0))
    scene = [truth([1], [[0, 0, 30, 32]])]
    with torch.autocast("cpu", dtype=dtype):
        losses = criterion(num_points=12544)([found], scene)
    assert all(loss.isfinite() for loss in losses.values())


def test_weights_of_classes_are_set_in_one_way():
    with pytest.raises(ValueError, match="no_object_weight"):
        criterion(losses={"cls": {"class_weight": [1.0] * 5}})
