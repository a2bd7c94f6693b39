"""The digit scenes as a panoptic dataset of mmdet."""

from typing import ClassVar

from mmdet.datasets import CocoPanopticDataset

from ..registry import DATASETS
from .digits_scenes import BACKGROUND, DIGITS, PALETTE
from .scenes_dataset import ScenesDataset


@DATASETS.register_module()
class DigitsPanoptic(ScenesDataset, CocoPanopticDataset):
    """Scenes of handwritten digits, every pixel in a segment, made on first use.

    The same scenes as those of ``DigitsInstances``. The ten digits are the things and
    come first; the one class of stuff is the background.

    Args:
        split: ``"train"`` or ``"val"``.
        data_root: Folder of the scenes; made if it is missing.
        pipeline: Transforms; a sample starts with ``img_path``, ``seg_map_path``,
            ``instances`` and ``segments_info``.
        indices: Only the first so many samples, or the samples at these positions.
        test_mode: Whether a failing transform is an error.
        lazy_init: Whether to leave the files for later.

    Raises:
        ValueError: If the split is unknown.
        FileExistsError: If ``data_root`` holds something else.
    """

    METAINFO: ClassVar[dict] = {
        "classes": (*DIGITS, "background"),
        "thing_classes": DIGITS,
        "stuff_classes": ("background",),
        "palette": [*PALETTE, BACKGROUND],
    }

    @staticmethod
    def files(split: str) -> dict:
        """Where a split lies below ``data_root``, as options of the dataset."""
        return {
            "ann_file": f"annotations/panoptic_{split}.json",
            "data_prefix": {"img": f"images/{split}/", "seg": f"panoptic/{split}/"},
        }
