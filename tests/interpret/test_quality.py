from dataclasses import astuple

import numpy as np
import pytest

from cluenet_mm.interpret.measure import half_width
from cluenet_mm.interpret.quality import (
    SegmentationScores,
    achievable_accuracy,
    best_match_iou,
    boundary_recall,
    color_tree,
    explained_variation,
    felzenszwalb_segments,
    grid_segments,
    slic_segments,
    undersegmentation_error,
)

# Two areas of 8 pixels; segment 0 has 6 of the first, 1 two of it and three of the
# second, 2 five of the second.
TRUTH = np.array([[0, 0, 1, 1]] * 4)
SEGMENTS = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 2, 2], [1, 1, 1, 2]])


def test_scores_that_the_hand_counts():
    assert achievable_accuracy(SEGMENTS, TRUTH) == (6 + 3 + 5) / 16
    # Only segment 1 leaks: its smaller part, 2 pixels, counts for either area.
    assert undersegmentation_error(SEGMENTS, TRUTH) == (2 + 2) / 16
    # Area 0: 6/8 by segment 0. Area 1: 5/8 by segment 2, 3/10 by segment 1.
    assert best_match_iou(SEGMENTS, TRUTH) == (6 / 8 + 5 / 8) / 2
    assert best_match_iou(SEGMENTS, TRUTH, background=0) == 5 / 8


def test_small_objects_are_those_below_a_part_of_the_image():
    truth = np.zeros((8, 8), int)
    truth[:4, :4] = 1  # a quarter of the image
    truth[7, 5:] = 2  # 3 of 64 pixels
    truth[6, :4] = 3  # 4 of 64: not below a sixteenth
    segments = np.where(truth == 2, 1, 0)
    segments[7, 7] = 0
    assert best_match_iou(segments, truth, 0, below=1 / 16) == 2 / 3
    assert best_match_iou(segments, truth, 0, below=5 / 64) == (2 / 3 + 4 / 62) / 2
    assert np.isnan(best_match_iou(segments, truth, 0, below=3 / 64))
    scores = SegmentationScores.of(segments, truth, background=0)
    assert scores.small_iou == 2 / 3
    assert scores.best_iou == (16 / 62 + 2 / 3 + 4 / 62) / 3


def test_pixels_without_a_label_do_not_count():
    truth = TRUTH.copy()
    truth[3] = -1  # segment 1 is left with two pixels of the second area
    assert achievable_accuracy(SEGMENTS, truth) == 1
    assert undersegmentation_error(SEGMENTS, truth) == 0
    assert best_match_iou(SEGMENTS, truth) == (1 + 4 / 6) / 2
    assert best_match_iou(SEGMENTS + 10, truth) == (1 + 4 / 6) / 2
    assert boundary_recall(SEGMENTS, truth, tolerance=0) == 1
    nothing = np.full_like(truth, -1)
    agreement = SegmentationScores.of(SEGMENTS, nothing)
    assert agreement.segments == 3
    scores = (agreement.accuracy, agreement.undersegmentation, agreement.best_iou)
    assert np.isnan((*scores, agreement.boundary_recall)).all()


def test_boundaries_within_a_tolerance():
    truth = np.zeros((8, 20), int)
    truth[:, 10:] = 1  # boundary pixels: column 9, 8 of them
    for shift, tolerance, recall in ((0, 0, 1), (2, 1, 0), (2, 2, 1), (-3, 2, 0)):
        segments = np.roll(truth, shift, axis=1)
        segments[:, : max(shift, 0)] = 0
        segments[:, 20 + min(shift, 0) :] = 1
        assert boundary_recall(segments, truth, tolerance) == recall
    short = truth.copy()
    short[4:] = 0  # its boundary: column 9 of rows 0..3, and row 3 from column 10
    assert boundary_recall(short, truth, tolerance=0) == 4 / 8
    assert boundary_recall(short, truth, tolerance=2) == 6 / 8
    assert np.isnan(boundary_recall(short, np.zeros_like(truth)))


def test_perfect_segments_are_perfect():
    image = np.repeat(TRUTH[..., None], 3, axis=2)
    agreement = SegmentationScores.of(TRUTH, TRUTH, image=image)
    expected = (2, 1, 0, 1, 1, float("nan"), 1, 1, 1)  # no object is small
    assert astuple(agreement) == pytest.approx(expected, nan_ok=True)


def test_explained_variation_is_the_part_between_segments():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    means = np.zeros((4, 4, 3))
    for name in range(3):
        inside = np.equal(SEGMENTS, name)
        means[inside] = image[inside].mean(axis=0)
    expected = means.reshape(-1, 3).var(0).sum() / image.reshape(-1, 3).var(0).sum()
    assert explained_variation(SEGMENTS, image) == pytest.approx(expected)
    assert np.isnan(explained_variation(SEGMENTS, np.zeros_like(image)))
    # By chance as much as by design: one segment shares nothing with the truth.
    one = SegmentationScores.of(np.zeros_like(TRUTH), TRUTH)
    assert (one.nmi, one.ari) == (0, 0)


def test_half_width_of_an_interval():
    # t(2) = 4.303 at 95 %, deviation 1, three images.
    assert half_width(np.array([1.0, 2, 3, np.nan])) == pytest.approx(
        4.3027 / 3**0.5, 1e-4
    )
    assert half_width(np.array([1.0])) is None


def test_means_leave_out_what_is_not_there():
    nan = float("nan")
    images = [
        SegmentationScores(2, 0.5, 0, nan, nan),
        SegmentationScores(4, 1, 0.5, 0.25, nan),
    ]
    mean = SegmentationScores.mean(images)
    assert mean.segments == 3
    assert mean.accuracy == 0.75
    assert mean.undersegmentation == 0.25
    assert mean.boundary_recall == 0.25
    assert np.isnan(mean.best_iou)


@pytest.mark.parametrize("size", [(8, 8), (30, 41), (64, 17)])
@pytest.mark.parametrize("count", [1, 2, 4, 7, 13])
def test_a_grid_has_exactly_so_many_cells(size, count):
    segments = grid_segments(size, count)
    assert segments.shape == size
    assert np.unique(segments).tolist() == list(range(count))
    sizes = np.bincount(segments.ravel())
    assert sizes.max() <= 4 * sizes.min()
    for cell in range(count):
        rows, columns = np.nonzero(segments == cell)
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert area == sizes[cell]  # a rectangle


def test_a_grid_of_squares():
    expected = np.array([[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2)
    assert (grid_segments((4, 6), 6) == expected).all()


def test_superpixels_follow_colors():
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :20] = (255, 0, 0)
    image[30:, 20:] = (0, 0, 255)
    truth = image[..., 0] // 255 + image[..., 2] // 255 * 2
    for found in (color_tree(image).cut(3).numpy(), felzenszwalb_segments(image, 3)):
        assert len(np.unique(found)) == 3
        assert achievable_accuracy(found, truth) > 0.98
    segments = slic_segments(image, 12)
    assert segments.min() == 0
    assert 9 <= segments.max() + 1 <= 15
    assert achievable_accuracy(segments, truth) > 0.99
    assert achievable_accuracy(grid_segments((48, 64), 12), truth) < 0.95
