"""Two segmentations of an image compared by the rules of panoptic quality."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET

__all__ = ["COUNTS", "Segmentation", "count_matches", "quality"]

# What is counted by class.
COUNTS = ("iou", "matched", "spurious", "missed")


class Segmentation(NamedTuple):
    """One image in segments.

    Attributes:
        index: ``(H, W)`` int, which of the ``N`` segments a pixel belongs to; ``N``
            where it belongs to none.
        labels: ``(N,)`` int classes.
        crowd: ``(N,)`` bool, which segments are crowds; None for none.
    """

    index: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray | None = None

    @classmethod
    def from_ids(
        cls,
        ids: np.ndarray,
        listed: Sequence[int],
        labels: Sequence[int],
        crowd: Sequence[bool],
    ) -> "Segmentation":
        """Make one from the ids of pixels; ids that are not listed are not segments."""
        listed = np.asarray(listed, np.int64)
        order = np.argsort(listed)
        position = np.searchsorted(listed[order], ids)
        # Beyond the last id nothing is found either.
        found = np.append(listed[order], -1)[position] == ids
        index = np.where(found, np.append(order, -1)[position], len(listed))
        return cls(index, np.asarray(labels, np.int64), np.asarray(crowd, bool))

    @classmethod
    def from_codes(cls, codes: np.ndarray, nothing: Collection[int]) -> "Segmentation":
        """Make one from mmdet's codes of pixels: class + offset * instance.

        Args:
            codes: ``(H, W)`` int.
            nothing: Classes that mean "no segment".
        """
        found, index = np.unique(codes, return_inverse=True)
        labels = found % INSTANCE_OFFSET
        kept = ~np.isin(labels, list(nothing))
        position = np.where(kept, np.cumsum(kept) - 1, kept.sum())
        return cls(position[index.reshape(codes.shape)], labels[kept])

    def ids(self) -> np.ndarray:
        """Segments of the pixels, ``(H, W)``, counted from 1; 0 for none."""
        return np.where(self.index < len(self.labels), self.index + 1, 0)


def count_matches(
    truth: Segmentation, prediction: Segmentation, num_classes: int
) -> np.ndarray:
    """Count matched, spurious and missed segments as COCO does.

    Segments match that are of one class and overlap by more than half of their union,
    from which pixels without a true segment are left out. A prediction that lies by
    more than half on such pixels, or on crowds of its class, is not spurious; a crowd
    is never missed.

    Args:
        truth: What is there.
        prediction: Of the same size.
        num_classes: Number ``C`` of classes.

    Returns:
        ``(C, 4)`` float64, the columns of :data:`COUNTS`: sum of the IoU of matches,
        matches, spurious predictions, missed segments.
    """
    rows, columns = len(truth.labels), len(prediction.labels)
    pairs = truth.index * (columns + 1) + prediction.index
    shared = np.bincount(pairs.ravel(), minlength=(rows + 1) * (columns + 1))
    shared = shared.reshape(rows + 1, columns + 1)
    inside, void = shared[:rows, :columns], shared[rows, :columns]
    true_area, predicted_area = shared[:rows].sum(1), shared[:, :columns].sum(0)

    crowd = np.zeros(rows, bool) if truth.crowd is None else truth.crowd
    same = truth.labels[:, None] == prediction.labels
    union = true_area[:, None] + predicted_area - inside - void
    iou = inside / np.maximum(union, 1)
    matches = same & ~crowd[:, None] & (iou > 0.5)
    excused = void + np.where(same & crowd[:, None], inside, 0).sum(0)
    spurious = ~matches.any(0) & (excused <= 0.5 * predicted_area)
    missed = ~matches.any(1) & ~crowd

    row, column = np.nonzero(matches)
    by_class = (
        (truth.labels[row], iou[row, column]),
        (truth.labels[row], None),
        (prediction.labels[spurious], None),
        (truth.labels[missed], None),
    )
    return np.stack(
        [np.bincount(labels, weights, num_classes) for labels, weights in by_class], 1
    ).astype(np.float64)


def quality(counts: np.ndarray) -> np.ndarray:
    """Panoptic, segmentation and recognition quality of every class.

    Args:
        counts: ``(C, 4)`` from :func:`count_matches`, summed over images.

    Returns:
        ``(C, 3)`` float64 within [0, 1]; NaN for a class of which there is no segment,
        true or predicted.
    """
    iou, matched, spurious, missed = counts.T
    size = matched + (spurious + missed) / 2
    nothing = size == 0
    segmentation = iou / np.maximum(matched, 1)
    recognition = matched / np.where(nothing, 1, size)
    qualities = np.stack([segmentation * recognition, segmentation, recognition], 1)
    qualities[nothing] = np.nan
    return qualities
