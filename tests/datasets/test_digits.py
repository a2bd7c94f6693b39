import hashlib

import numpy as np
import pytest

from cluenet_mm.datasets import Digits


def test_the_split_is_fixed_stratified_and_disjoint():
    train, val = Digits("train"), Digits("val")
    assert (len(train), len(val)) == (1437, 360)
    counts = {
        name: np.bincount(d.get_gt_labels())
        for name, d in (("train", train), ("val", val))
    }
    fraction = counts["val"] / (counts["train"] + counts["val"])
    assert np.all(abs(fraction - 0.2) < 0.01)
    images = [train[i]["img"].tobytes() for i in range(len(train))]
    assert not set(images) & {val[i]["img"].tobytes() for i in range(len(val))}
    # Results are compared across machines: the split must never move.
    labels = bytes(int(label) for label in val.get_gt_labels())
    assert hashlib.sha256(labels).hexdigest()[:16] == "da1a2ec12e5c2ed7"


def test_samples_are_rgb_images():
    sample = Digits("val")[0]
    assert sample["img"].shape == (32, 32, 3)
    assert sample["img"].dtype == np.uint8
    assert (sample["img"][..., 0] == sample["img"][..., 2]).all()
    assert sample["img"].max() > 200
    assert Digits("val").metainfo["classes"][3] == "3"


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="'test'"):
        Digits("test")
