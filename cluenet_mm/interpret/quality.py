"""How well clusters agree with the objects that people drew, and with superpixels.

Segments are ``(H, W)`` integers from 0; a truth is the same with negative labels where
nobody said anything: such pixels are left out of every count.
"""

from dataclasses import astuple, dataclass

import cv2
import numpy as np
from skimage.segmentation import felzenszwalb, slic
from sklearn.cluster import ward_tree
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from .segments import MergeTree

BOUNDARY_TOLERANCE = 2
# Objects that cover less of the image than this are small.
SMALL = 1 / 16
_FELZENSZWALB_TRIES = 12
_SLIC_TRIES = 6


@dataclass(frozen=True)
class SegmentationScores:
    """How segments agree with the truth of one image; NaN is "nothing to match".

    Attributes:
        segments: Number of segments.
        accuracy: :func:`achievable_accuracy`, large is good.
        undersegmentation: :func:`undersegmentation_error`, small is good.
        boundary_recall: :func:`boundary_recall`, large is good.
        best_iou: :func:`best_match_iou`, large is good.
        small_iou: The same of the objects that cover less than ``SMALL`` of the image.
        nmi: Normalized mutual information with the truth (Strehl and Ghosh, 2002),
            arithmetic mean of the entropies, in [0, 1]; large is good.
        ari: Adjusted Rand index (Hubert and Arabie, 1985), 0 by chance; large is good.
        explained: :func:`explained_variation` of the image's colors, large is good.
    """

    segments: float
    accuracy: float
    undersegmentation: float
    boundary_recall: float
    best_iou: float
    small_iou: float = float("nan")
    nmi: float = float("nan")
    ari: float = float("nan")
    explained: float = float("nan")

    @classmethod
    def of(
        cls,
        segments: np.ndarray,
        truth: np.ndarray,
        background: int | None = None,
        tolerance: int = BOUNDARY_TOLERANCE,
        image: np.ndarray | None = None,
    ) -> "SegmentationScores":
        """Compare segments with a truth.

        Args:
            segments: ``(H, W)`` integers from 0.
            truth: ``(H, W)`` integers, negative where nothing is known.
            background: Label outside all objects: an area like the others, except that
                the IoUs do not ask for it.
            tolerance: Of the boundaries, in pixels.
            image: ``(H, W, 3)``, whose colors are to be explained.
        """
        known = truth >= 0
        pair = truth[known], segments[known]
        return cls(
            len(np.unique(segments)),
            achievable_accuracy(segments, truth),
            undersegmentation_error(segments, truth),
            boundary_recall(segments, truth, tolerance),
            best_match_iou(segments, truth, background),
            best_match_iou(segments, truth, background, below=SMALL),
            *(
                float(score(*pair)) if known.any() else float("nan")
                for score in (normalized_mutual_info_score, adjusted_rand_score)
            ),
            float("nan") if image is None else explained_variation(segments, image),
        )

    @classmethod
    def mean(cls, scores: list["SegmentationScores"]) -> "SegmentationScores":
        """Mean of each number over the images (or heads) that have it."""
        table = np.ma.masked_invalid([astuple(a) for a in scores])
        return cls(*table.mean(axis=0).filled(np.nan).tolist())


def achievable_accuracy(segments: np.ndarray, truth: np.ndarray) -> float:
    """Achievable segmentation accuracy (ASA).

    Part of the pixels that are right when every segment gets the label that most of its
    pixels have: ``sum_s max_g |s & g| / N``.
    """
    shared, total = _contingency(segments, truth)
    return float(shared.max(axis=1).sum() / total) if total else float("nan")


def undersegmentation_error(segments: np.ndarray, truth: np.ndarray) -> float:
    """Under-segmentation error of Neubert and Protzel (2012), free of a tolerance.

    How far segments leak over the borders of the truth: for every area ``g`` and every
    segment ``s`` that touches it the smaller part of ``s``,
    ``sum_g sum_{s: s & g} min(|s & g|, |s - g|) / N``.
    """
    shared, total = _contingency(segments, truth)
    outside = shared.sum(axis=1, keepdims=True) - shared
    return float(np.minimum(shared, outside).sum() / total) if total else float("nan")


def boundary_recall(
    segments: np.ndarray, truth: np.ndarray, tolerance: int = BOUNDARY_TOLERANCE
) -> float:
    """Part of the truth's boundary pixels near a boundary of the segments.

    A pixel is on a boundary if the label to its right or below differs; in the truth
    both labels must be known.

    Args:
        segments: ``(H, W)`` integers.
        truth: ``(H, W)`` integers, negative where nothing is known.
        tolerance: Near is at most so many pixels away, along both axes.
    """
    wanted = _boundaries(truth)
    if not wanted.any():
        return float("nan")
    side = 2 * tolerance + 1
    near = cv2.dilate(_boundaries(segments).astype(np.uint8), np.ones((side, side)))
    return float(near[wanted].mean())


def best_match_iou(
    segments: np.ndarray,
    truth: np.ndarray,
    background: int | None = None,
    below: float = float("inf"),
) -> float:
    """Mean over the objects of the largest IoU that any single segment reaches.

    Args:
        segments: ``(H, W)`` integers from 0.
        truth: ``(H, W)`` integers: objects, or classes where there are no objects.
        background: Label outside all objects.
        below: Only objects that cover less than this part of the image.
    """
    shared, _ = _contingency(segments, truth)
    areas = shared.sum(axis=0)
    union = shared.sum(axis=1, keepdims=True) + areas - shared
    wanted = (areas > 0) & (areas < below * truth.size)
    if background is not None and background < len(wanted):
        wanted[background] = False
    if not wanted.any():
        return float("nan")
    return float((shared / np.maximum(union, 1)).max(axis=0)[wanted].mean())


def explained_variation(segments: np.ndarray, image: np.ndarray) -> float:
    """Part of the variance of the colors that lies between segments.

    ``R^2 = sum_i |m(s_i) - m|^2 / sum_i |x_i - m|^2`` over all pixels, with the mean
    color ``m(s_i)`` of a pixel's segment and ``m`` of the image (Moore et al.,
    Superpixel Lattices, CVPR 2008). In [0, 1]; NaN for an image of one color.

    Args:
        segments: ``(H, W)`` integers from 0.
        image: ``(H, W, C)``.
    """
    colors = image.reshape(-1, image.shape[-1]).astype(np.float64)
    colors -= colors.mean(axis=0)
    total = (colors**2).sum()
    _, names = np.unique(segments.ravel(), return_inverse=True)
    sums = np.stack([np.bincount(names, column) for column in colors.T], axis=1)
    between = (sums**2 / np.bincount(names)[:, None]).sum()
    return float(between / total) if total else float("nan")


def color_tree(image: np.ndarray) -> MergeTree:
    """Ward's method with grid connectivity on the CIE Lab colors of the pixels.

    Args:
        image: ``(H, W, 3)`` uint8, RGB.

    Returns:
        Its hierarchy: one run for every number of segments.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    children = ward_tree(
        lab.reshape(-1, 3).astype(np.float64),
        connectivity=grid_to_graph(*image.shape[:2]),
    )[0]
    return MergeTree.of(children, np.arange(lab[..., 0].size).reshape(lab.shape[:2]))


def felzenszwalb_segments(image: np.ndarray, count: int) -> np.ndarray:
    """Graph-based segments (Felzenszwalb and Huttenlocher, 2004), near to ``count``.

    Their number falls with ``scale``, which is searched by halving in its logarithm;
    segments below a quarter of the mean size are merged into a neighbor.

    Args:
        image: ``(H, W, 3)`` uint8, RGB.
        count: Number of segments.

    Returns:
        ``(H, W)`` int64, from 0.
    """
    best, low, high = None, 0.0, 16.0  # scale from 1 to 65,536
    smallest = max(image.shape[0] * image.shape[1] // (4 * count), 1)
    for _ in range(_FELZENSZWALB_TRIES):
        middle = (low + high) / 2
        found = felzenszwalb(image, scale=2**middle, sigma=0.5, min_size=smallest)
        got = found.max() + 1
        if best is None or abs(got - count) < abs(best.max() + 1 - count):
            best = found
        if got == count:
            break
        low, high = (middle, high) if got > count else (low, middle)
    return best


def grid_segments(size: tuple[int, int], count: int) -> np.ndarray:
    """Exactly ``count`` rectangles, as square as may be: rows of nearly equal cells.

    Args:
        size: Rows and columns of the image.
        count: Number of rectangles, at most one a pixel of a row.

    Returns:
        ``(H, W)`` int64.
    """
    height, width = size
    rows = min(max(round(np.sqrt(count * height / width)), 1), count, height)
    row = np.arange(height) * rows // height  # (H,)
    first = np.arange(rows + 1) * count // rows  # the first cell of every row
    cells = np.diff(first)[row]  # (H,)
    return first[row][:, None] + np.arange(width) * cells[:, None] // width


def slic_segments(image: np.ndarray, count: int) -> np.ndarray:
    """SLIC superpixels, as near to ``count`` of them as SLIC comes.

    Its result has more or fewer segments than it is asked for, so it is asked again.

    Args:
        image: ``(H, W, 3)`` uint8, RGB.
        count: Number of superpixels.

    Returns:
        ``(H, W)`` int64, from 0.
    """
    best, ask, asked = None, count, set()
    for _ in range(_SLIC_TRIES):
        found = slic(image, n_segments=ask, compactness=10, start_label=0)
        got = found.max() + 1
        if best is None or abs(got - count) < abs(best.max() + 1 - count):
            best = found
        asked.add(ask)
        ask = max(round(ask * count / got), 1)
        if got == count or ask in asked:
            break
    return best


def _contingency(segments: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, int]:
    """Pixels that segments and labels share, ``(segments, labels)``, and their sum."""
    known = truth >= 0
    labels = int(truth.max(initial=0)) + 1
    names, rows = np.unique(segments[known], return_inverse=True)
    pairs = rows * labels + truth[known]
    shared = np.bincount(pairs, minlength=max(len(names), 1) * labels)
    return shared.reshape(-1, labels), int(known.sum())


def _boundaries(labels: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbor has another label, both known."""
    edge = np.zeros(labels.shape, bool)
    right, below = labels[:, 1:], labels[1:]
    edge[:, :-1] |= (labels[:, :-1] != right) & (labels[:, :-1] >= 0) & (right >= 0)
    edge[:-1] |= (labels[:-1] != below) & (labels[:-1] >= 0) & (below >= 0)
    return edge
