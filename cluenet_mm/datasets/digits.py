"""Handwritten digits that come with scikit-learn: a dataset without a download."""

from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np
from mmpretrain.datasets import BaseDataset
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ..registry import DATASETS
from .split import check_split

IMAGE_SIZE = 32
VAL_FRACTION = 0.2
# The split is part of the dataset's definition; results hold for this one.
SPLIT_SEED = 0


@DATASETS.register_module()
class Digits(BaseDataset):
    """1,797 handwritten digits as 32 x 32 RGB images in memory.

    The 8 x 8 images of the "Optical Recognition of Handwritten Digits" set (UCI, CC
    BY 4.0) as scikit-learn bundles it, enlarged with bicubic interpolation. One fifth
    of every class, drawn with a fixed seed, is for validation: 1,437 train, 360 val.

    Args:
        split: ``"train"`` or ``"val"``.
        pipeline: Transforms; a sample starts with ``img`` (uint8, 32 x 32 x 3, RGB) and
            ``gt_label``.
        indices: Only the first so many samples, or the samples at these positions.
        test_mode: Whether a failing transform is an error.

    Raises:
        ValueError: If the split is unknown.
    """

    METAINFO: ClassVar[dict] = {"classes": tuple("0123456789")}

    def __init__(
        self,
        split: str,
        pipeline: Sequence = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
    ) -> None:
        check_split(split)
        self.split = split
        super().__init__(
            ann_file="", pipeline=pipeline, indices=indices, test_mode=test_mode
        )

    def load_data_list(self) -> list[dict]:
        """Read, split and enlarge the images."""
        digits = load_digits()
        train, val = train_test_split(
            np.arange(len(digits.target)),
            test_size=VAL_FRACTION,
            stratify=digits.target,
            random_state=SPLIT_SEED,
        )
        chosen = np.sort(train if self.split == "train" else val)
        return [
            {"img": _enlarge(digits.images[i]), "gt_label": int(digits.target[i])}
            for i in chosen
        ]


def _enlarge(image: np.ndarray) -> np.ndarray:
    """8 x 8 floats in [0, 16] to 32 x 32 x 3 uint8."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    grey = cv2.resize(image * (255 / 16), size, interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, -1)
