"""The digit scenes as a dataset of mmdet."""

from typing import ClassVar

from mmdet.datasets import CocoDataset

from ..registry import DATASETS
from .digits_scenes import DIGITS, PALETTE
from .scenes_dataset import ScenesDataset


@DATASETS.register_module()
class DigitsInstances(ScenesDataset, CocoDataset):
    """Scenes of handwritten digits with boxes and masks, made on first use.

    400 scenes train and 100 are for validation, with 4 to 8 digits each; see
    :mod:`cluenet_mm.datasets.digits_scenes`.

    Args:
        split: ``"train"`` or ``"val"``.
        data_root: Folder of the scenes; made if it is missing.
        pipeline: Transforms; a sample starts with ``img_path`` and ``instances``.
        indices: Only the first so many samples, or the samples at these positions.
        test_mode: Whether a failing transform is an error.
        lazy_init: Whether to leave the files for later.

    Raises:
        ValueError: If the split is unknown.
        FileExistsError: If ``data_root`` holds something else.
    """

    METAINFO: ClassVar[dict] = {"classes": DIGITS, "palette": PALETTE}

    @staticmethod
    def files(split: str) -> dict:
        """Where a split lies below ``data_root``, as options of the dataset."""
        return {
            "ann_file": f"annotations/instances_{split}.json",
            "data_prefix": {"img": f"images/{split}/"},
        }
