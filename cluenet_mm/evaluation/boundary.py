"""Boundary F-score of semantic segmentations."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..registry import METRICS


@METRICS.register_module()
class BoundaryFScore(BaseMetric):
    """How well the borders of predicted classes lie on those of the truth.

    Of every class, a pixel on the border of its predicted area is right if a border
    pixel of its true area is near (precision), and the reverse (recall). Pixels are
    counted over the whole dataset; ``mBF`` is the mean over the classes that have a
    border of ``F = 2 P R / (P + R)``, in per cent. Pixels without a label, and borders
    with them, take no part. After Csurka et al., "What is a good evaluation measure for
    semantic segmentation?" (BMVC 2013), who take the mean over images.

    Args:
        tolerance: Near is at most so many pixels away, along both axes.
        ignore_index: Label of pixels that take no part.
        collect_device: ``"cpu"`` or ``"gpu"``, where processes gather results.
        prefix: Of the key.

    Raises:
        ValueError: If the tolerance is negative.
    """

    def __init__(
        self,
        tolerance: int = 2,
        ignore_index: int = 255,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if tolerance < 0:
            raise ValueError(f"tolerance must not be negative: {tolerance}")
        self.tolerance = tolerance
        self.ignore_index = ignore_index

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Count border pixels.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_sem_seg`` and ``gt_sem_seg``, whose ``data`` is
                ``(1, H, W)`` int.
        """
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            found, truth = (
                sample[key]["data"].squeeze(0).cpu().numpy()
                for key in ("pred_sem_seg", "gt_sem_seg")
            )
            known = truth != self.ignore_index
            self.results.append(
                count_borders(found, truth, known, classes, self.tolerance)
            )

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """``mBF`` of the counts of all images."""
        right, predicted, recalled, true = sum(results).T
        seen = predicted + true > 0
        # 2 P R / (P + R) of P = right / predicted and R = recalled / true.
        precision = right / np.maximum(predicted, 1)
        recall = recalled / np.maximum(true, 1)
        score = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        mean = 100 * float(score[seen].mean()) if seen.any() else float("nan")
        print_log(f"Boundary F-score: {mean:.2f} % of {seen.sum()} classes", "current")
        return {"mBF": mean}


def count_borders(
    found: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    num_classes: int,
    tolerance: int,
) -> np.ndarray:
    """Border pixels of every class.

    Args:
        found: ``(H, W)`` predicted labels.
        truth: ``(H, W)`` true labels.
        known: ``(H, W)`` bool, pixels that take part.
        num_classes: Number ``C`` of classes.
        tolerance: Near is at most so many pixels away, along both axes.

    Returns:
        ``(C, 4)`` int64: predicted border pixels near a true one, all predicted, true
        ones near a predicted one, all true.
    """
    counts = np.zeros((num_classes, 4), np.int64)
    kernel = np.ones((2 * tolerance + 1,) * 2, np.uint8)
    borders = [_borders(labels, known) for labels in (found, truth)]
    for label in np.union1d(found[borders[0]], truth[borders[1]]):
        if not 0 <= label < num_classes:
            continue
        ours = borders[0] & (found == label)
        theirs = borders[1] & (truth == label)
        near_ours, near_theirs = (
            cv2.dilate(b.astype(np.uint8), kernel) > 0 for b in (ours, theirs)
        )
        counts[label] = (
            (ours & near_theirs).sum(),
            ours.sum(),
            (theirs & near_ours).sum(),
            theirs.sum(),
        )
    return counts


def _borders(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Known pixels one of whose four neighbors is known and has another label."""
    border = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        last, first = (
            tuple(part if a == axis else slice(None) for a in (0, 1))
            for part in (slice(None, -1), slice(1, None))
        )
        differs = (labels[last] != labels[first]) & known[last] & known[first]
        border[last] |= differs
        border[first] |= differs
    return border
