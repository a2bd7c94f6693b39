"""The digit scenes as a data set of mmdet."""

from collections.abc import Sequence
from typing import ClassVar

from mmdet.datasets import CocoDataset

from ..registry import DATASETS
from .digits_scenes import DIGITS, PALETTE, prepare_scenes
from .split import check_split


@DATASETS.register_module()
class DigitsInstances(CocoDataset):
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

    def __init__(
        self,
        split: str,
        data_root: str = "data/digits_scenes",
        pipeline: Sequence = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ) -> None:
        check_split(split)
        super().__init__(
            ann_file=f"annotations/instances_{split}.json",
            data_root=data_root,
            data_prefix={"img": f"images/{split}/"},
            pipeline=pipeline,
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """Read the annotations, from scenes that are made first where needed."""
        prepare_scenes(self.data_root)
        return super().load_data_list()
