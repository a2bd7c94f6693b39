"""Boundary F-score against what is known of it."""

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from cluenet_mm.evaluation import BoundaryFScore
from cluenet_mm.evaluation.boundary import count_borders


def score(found, truth, tolerance=2, classes=3):
    metric = BoundaryFScore(tolerance)
    metric.dataset_meta = {"classes": [str(i) for i in range(classes)]}
    sample = {
        "pred_sem_seg": {"data": torch.as_tensor(found)[None]},
        "gt_sem_seg": {"data": torch.as_tensor(truth)[None]},
    }
    metric.process(None, [sample])
    return metric.evaluate(1)["mBF"]


def square(top=10, left=10, side=12, label=1):
    labels = np.zeros((40, 40), np.int64)
    labels[top : top + side, left : left + side] = label
    return labels


def test_a_shift_within_the_tolerance_is_free():
    truth = square()
    assert score(truth, truth) == 100
    assert score(square(11, 12), truth) == 100
    assert score(square(11, 12), truth, tolerance=0) < 50
    assert score(square(10, 20), truth) < 80
    assert score(square(26, 26), truth) == 0


def test_the_class_counts_and_not_its_place_alone():
    # The border of the background is right, those of both classes are wrong.
    assert score(square(label=2), square(label=1)) == pytest.approx(100 / 3)


def test_pixels_without_a_label_take_no_part():
    truth = square()
    truth[:, 20:] = 255
    found = square()
    found[:, 20:] = 2  # whatever is predicted there
    assert score(found, truth) == 100


def test_an_image_without_borders_has_no_score():
    nothing = np.zeros((8, 8), np.int64)
    assert np.isnan(score(nothing, nothing))
    assert score(np.zeros((40, 40), np.int64), square()) == 0


def test_counts_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 3, (2, 9, 11)).repeat(2, 1).repeat(2, 2)
    known = rng.random(truth.shape) > 0.1

    def border(labels, label):
        places = []
        for i, j in np.argwhere((labels == label) & known):
            for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                inside = 0 <= a < labels.shape[0] and 0 <= b < labels.shape[1]
                if inside and known[a, b] and labels[a, b] != label:
                    places.append((i, j))
                    break
        return np.array(places)

    counts = count_borders(found, truth, known, 3, 1)
    for label in range(3):
        ours, theirs = border(found, label), border(truth, label)
        distance = np.abs(ours[:, None] - theirs).max(axis=2)
        near = distance <= 1
        expected = near.any(1).sum(), len(ours), near.any(0).sum(), len(theirs)
        assert counts[label].tolist() == list(expected)


def test_a_tolerance_is_not_negative():
    with pytest.raises(ValueError, match="tolerance must not be negative"):
        BoundaryFScore(-1)
