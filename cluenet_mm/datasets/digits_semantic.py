"""The digit scenes as a data set of mmseg."""

from collections.abc import Sequence
from typing import ClassVar

from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS
from .digits_scenes import DIGITS, PALETTE, prepare_scenes
from .split import check_split


@DATASETS.register_module()
class DigitsSemantic(BaseSegDataset):
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
            img_suffix=".png",
            data_root=data_root,
            data_prefix={
                "img_path": f"images/{split}",
                "seg_map_path": f"semantic/{split}",
            },
            pipeline=pipeline,
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """List the files, of scenes that are made first where needed."""
        prepare_scenes(self.data_root)
        return super().load_data_list()
