"""The digit scenes as a dataset of mmseg."""

from typing import ClassVar

from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS
from .digits_scenes import DIGITS, PALETTE
from .scenes_dataset import ScenesDataset


@DATASETS.register_module()
class DigitsSemantic(ScenesDataset, BaseSegDataset):
    """Scenes of handwritten digits with label maps, made on first use.

    The same scenes as those of ``DigitsInstances``; the classes are the background and
    the ten digits.

    Args:
        split: ``"train"`` or ``"val"``.
        data_root: Folder of the scenes; made if it is missing.
        pipeline: Transforms; a sample starts with ``img_path`` and ``seg_map_path``.
        indices: Only the first so many samples, or the samples at these positions.
        test_mode: Whether a failing transform is an error.
        lazy_init: Whether to leave the files for later.

    Raises:
        ValueError: If the split is unknown.
        FileExistsError: If ``data_root`` holds something else.
    """

    METAINFO: ClassVar[dict] = {
        "classes": ("background", *DIGITS),
        "palette": [(0, 0, 0), *PALETTE],
    }

    @staticmethod
    def files(split: str) -> dict:
        """Where a split lies below ``data_root``, as options of the dataset."""
        return {
            "img_suffix": ".png",
            "data_prefix": {
                "img_path": f"images/{split}",
                "seg_map_path": f"semantic/{split}",
            },
        }
