from dataclasses import astuple

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from cluenet_mm.interpret.measure import measure_stability
from cluenet_mm.interpret.stability import stabilities

IMAGE = np.random.default_rng(0).integers(60, 196, (20, 24, 3)).astype(np.uint8)


def test_what_follows_the_image_is_stable():
    """A partition by what noise does not change moves with the image."""
    (found,) = stabilities(lambda view: [view[..., 0] // 64], IMAGE, deviation=0)
    assert astuple(found) == (4, 1, 1, 1)
    (noisy,) = stabilities(lambda view: [view[..., 0] // 64], IMAGE, deviation=30)
    assert 0.1 < noisy.noise < 0.9
    assert (noisy.shift, noisy.flip) == (1, 1)


def test_what_ignores_the_image_survives_noise_alone():
    def stripes(view):
        rows, columns = np.indices(view.shape[:2])
        return [columns // 5, rows // 3]

    upright, level = stabilities(stripes, IMAGE, shift=2)
    assert upright.noise == level.noise == level.flip == 1
    # Of 22 columns the 20 that both windows have, and 16 rows.
    first, second = np.arange(2, 22) // 5, np.arange(20) // 5
    expected = adjusted_rand_score(np.tile(first, 16), np.tile(second, 16))
    assert upright.shift == pytest.approx(expected)
    columns = np.tile(np.arange(24) // 5, 20), np.tile(np.arange(24)[::-1] // 5, 20)
    assert upright.flip == pytest.approx(adjusted_rand_score(*columns))
    assert expected < 0.5


def test_chance_is_zero():
    generator = np.random.default_rng(1)
    noise = lambda view: [generator.integers(0, 4, view.shape[:2])]  # noqa: E731
    (found,) = stabilities(noise, np.zeros((64, 64, 3), np.uint8))
    assert astuple(found)[1:] == pytest.approx((0, 0, 0), abs=0.01)


def test_a_shift_over_the_border_is_refused():
    with pytest.raises(ValueError, match="cannot shift an image of 20 x 24 pixels"):
        stabilities(lambda view: [view[..., 0]], IMAGE, shift=10)


def test_networks_stand_beside_their_opponents(classifier):
    images = [IMAGE.repeat(2, 0).repeat(2, 1), IMAGE[::-1].repeat(2, 0).repeat(2, 1)]
    table = measure_stability(classifier, images, [classifier])
    rows = {(row["stage"], row["segments"]): row for row in table["rows"]}
    kinds = (
        "clusters",
        "untrained 1",
        "Ward on colors",
        "Felzenszwalb",
        "SLIC",
        "grid",
    )
    assert set(rows) == {(stage, kind) for stage in (1, 2, 3, 4) for kind in kinds}
    assert table["images"] == 2
    for stage in (1, 2, 3, 4):
        mine, same = rows[stage, "clusters"], rows[stage, "untrained 1"]
        assert {k: mine[k] for k in ("count", "shift", "flip", "noise")} == {
            k: same[k] for k in ("count", "shift", "flip", "noise")
        }
        assert same["lead"]["clusters"]["shift"] == [0, 0]
        assert rows[stage, "grid"]["noise"] == 1
        assert mine["shift"] < 1
